//! Who may ask: basic authentication against bcrypt hashes.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::digest::{Context, SHA256};
use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::task::spawn_blocking;

/// A hash that no password is accepted for: an unknown user costs as much time as a known one, so that nobody learns
/// from it who is known.
const NOBODY: &str = "$2b$10$CwTycUXWue0Thq9StjUM0uJ4J8fHn3nQ.Vq0tq3v8b2Rk3c1v6S4S";

/// Wrong passwords that are remembered.
const WRONG: usize = 256;

/// Users, and the bcrypt hash of each one's password.
pub type Users = BTreeMap<String, String>;

/// What was found out about users and passwords. Passwords are not kept: only digests of who, what and against which
/// hash.
#[derive(Default)]
pub struct Gate {
    known: Arc<Mutex<Known>>,
    /// Held by the one comparison that goes on: each takes a processor for tens of milliseconds.
    one: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Default)]
struct Known {
    /// Apart from the wrong ones, so that who tries passwords cannot push them out.
    right: HashSet<[u8; 32]>,
    wrong: HashSet<[u8; 32]>,
}

impl Gate {
    /// Whether the value of an `Authorization` header names a user and this user's password.
    pub async fn lets_in(&self, authorization: Option<&[u8]>, users: &Users) -> bool {
        let Some((user, password)) = authorization.and_then(credentials) else { return false };
        let hash = users.get(&user).map(String::as_str);
        let known_user = hash.is_some();
        let hash = hash.unwrap_or(NOBODY).to_owned();
        let key = digest([user.as_bytes(), hash.as_bytes(), &password]);
        if let Some(known) = lock(&self.known).find(&key) {
            return known;
        }
        let one = self.one.clone().lock_owned().await;
        // Another request with the same password was before this one.
        if let Some(known) = lock(&self.known).find(&key) {
            return known;
        }
        let (known, users) = (self.known.clone(), users.len());
        let compare = move || {
            // Here, since a client that goes away ends its request, and not what goes on here.
            let _one = one;
            let right = bcrypt::verify(password, &hash).unwrap_or(false) && known_user;
            lock(&known).learn(key, right, users);
            right
        };
        spawn_blocking(compare).await.unwrap_or(false)
    }
}

impl Known {
    fn find(&self, key: &[u8; 32]) -> Option<bool> {
        if self.right.contains(key) { Some(true) } else { self.wrong.contains(key).then_some(false) }
    }

    fn learn(&mut self, key: [u8; 32], right: bool, users: usize) {
        let (set, most) = if right { (&mut self.right, users.max(1)) } else { (&mut self.wrong, WRONG) };
        // Right ones are more than there are users only after hashes were changed.
        if set.len() >= most {
            set.clear();
        }
        set.insert(key);
    }
}

fn lock(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

/// User and password of a header's value (RFC 7617).
fn credentials(value: &[u8]) -> Option<(String, Vec<u8>)> {
    let (scheme, rest) = value.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let mut pair = STANDARD.decode(rest.trim_ascii()).ok()?;
    let colon = pair.iter().position(|b| *b == b':')?;
    let password = pair.split_off(colon + 1);
    pair.truncate(colon);
    Some((String::from_utf8(pair).ok()?, password))
}

/// Each part with its length before it: no two different triples are the same bytes.
fn digest(parts: [&[u8]; 3]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&part.len().to_le_bytes());
        context.update(part);
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(user: &str, password: &str) -> Vec<u8> {
        format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))).into_bytes()
    }

    fn users() -> Users {
        [("scraper".to_owned(), bcrypt::hash("s3cret:with colon", 4).unwrap())].into()
    }

    #[tokio::test]
    async fn the_right_password_and_nothing_else() {
        let (gate, users) = (Gate::default(), users());
        let good = header("scraper", "s3cret:with colon");
        assert!(gate.lets_in(Some(&good), &users).await);
        assert!(
            gate.lets_in(
                Some(&good.to_ascii_lowercase()[..6].iter().chain(&good[6..]).copied().collect::<Vec<_>>()),
                &users
            )
            .await
        );
        for bad in [
            None,
            Some(header("scraper", "wrong")),
            Some(header("stranger", "s3cret:with colon")),
            Some(header("", "")),
            Some(b"Basic".to_vec()),
            Some(b"Basic ???".to_vec()),
            Some(b"Basic c2NyYXBlcg==".to_vec()),
            Some(b"Bearer abc".to_vec()),
            Some(vec![0xff; 100]),
        ] {
            assert!(!gate.lets_in(bad.as_deref(), &users).await, "{bad:?}");
        }
    }

    #[tokio::test]
    async fn a_result_is_remembered_until_the_hash_changes() {
        let (gate, mut users) = (Gate::default(), users());
        let good = header("scraper", "s3cret:with colon");
        assert!(gate.lets_in(Some(&good), &users).await);
        // Held: who is known needs no comparison.
        let held = gate.one.lock().await;
        assert!(gate.lets_in(Some(&good), &users).await);
        drop(held);
        users.insert("scraper".to_owned(), bcrypt::hash("another", 4).unwrap());
        assert!(!gate.lets_in(Some(&good), &users).await);
    }

    /// Who asks and goes away does not get a second processor for it.
    #[tokio::test]
    async fn one_comparison_goes_on_whoever_goes_away() {
        let gate = Arc::new(Gate::default());
        let users: Users = [("scraper".to_owned(), bcrypt::hash("x", 10).unwrap())].into();
        for n in 0..3 {
            let (gate, users) = (gate.clone(), users.clone());
            let asked =
                tokio::spawn(
                    async move { gate.lets_in(Some(&header("scraper", &n.to_string())), &users).await },
                );
            tokio::task::yield_now().await;
            asked.abort();
            let _ = asked.await;
        }
        assert!(gate.one.try_lock().is_err(), "the first goes on, and the others wait for it");
        let _one = gate.one.lock().await;
        assert_eq!(lock(&gate.known).wrong.len(), 1);
    }

    #[tokio::test]
    async fn guessing_does_not_push_out_who_is_known() {
        let (gate, users) = (Gate::default(), users());
        let good = header("scraper", "s3cret:with colon");
        assert!(gate.lets_in(Some(&good), &users).await);
        for n in 0..=WRONG {
            lock(&gate.known).learn(digest([b"x", b"y", &n.to_le_bytes()]), false, 1);
        }
        let known = lock(&gate.known);
        assert_eq!((known.right.len(), known.wrong.len()), (1, 1));
    }

    #[test]
    fn the_hash_of_nobody_is_one() {
        assert!(!bcrypt::verify("x", NOBODY).unwrap());
    }
}
