//! The core's enumerations on their way through JSON: by the labels' values, as metrics show them.

use agent_ebpf::label::Label;
use serde::{Deserialize, Deserializer, Serializer, de::Error};

fn find<'de, T: Label, D: Deserializer<'de>>(name: &str) -> Result<T, D::Error> {
    let found = T::VALUES.iter().copied().find(|value| value.value() == name);
    found.ok_or_else(|| {
        let known: Vec<_> = T::VALUES.iter().map(|value| value.value()).collect();
        D::Error::custom(format!("{name:?} is none of {}", known.join(", ")))
    })
}

pub mod one {
    //! A value.

    use super::{Deserialize, Deserializer, Label, Serializer, find};

    pub fn serialize<T: Label, S: Serializer>(value: &T, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(value.value())
    }

    pub fn deserialize<'de, T: Label, D: Deserializer<'de>>(d: D) -> Result<T, D::Error> {
        find::<T, D>(&String::deserialize(d)?)
    }
}

pub mod optional {
    //! A value, or null.

    use super::{Deserialize, Deserializer, Label, Serializer, find};

    pub fn serialize<T: Label, S: Serializer>(value: &Option<T>, s: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => s.serialize_some(value.value()),
            None => s.serialize_none(),
        }
    }

    pub fn deserialize<'de, T: Label, D: Deserializer<'de>>(d: D) -> Result<Option<T>, D::Error> {
        let name: Option<String> = Option::deserialize(d)?;
        name.map(|name| find::<T, D>(&name)).transpose()
    }
}
