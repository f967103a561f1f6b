//! Whether a file is still what was read: its stamp is cheap enough to look at for each request.

use std::{
    fs::Metadata,
    io,
    os::unix::fs::MetadataExt as _,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// A file written so shortly before it was read may be written again without a new time: the clock of a file system
/// goes in steps.
const SETTLED: Duration = Duration::from_secs(1);

/// What changes when a file does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    /// Seconds and nanoseconds. Of the status, not of the content: a copy that keeps the old times changes it, too.
    changed: (i64, i64),
    /// False while the next look must read the file, whatever the stamp says.
    settled: bool,
}

impl Stamp {
    /// Of the file that a path leads to now.
    pub fn of(path: &Path) -> io::Result<Self> {
        Ok(Self::new(&std::fs::metadata(path)?, SystemTime::now()))
    }

    fn new(file: &Metadata, now: SystemTime) -> Self {
        let changed = (file.ctime(), file.ctime_nsec());
        let at = UNIX_EPOCH + Duration::from_secs(u64::try_from(changed.0).unwrap_or(0));
        let settled = now.duration_since(at).is_ok_and(|age| age > SETTLED + Duration::from_secs(1));
        Self { device: file.dev(), inode: file.ino(), bytes: file.size(), changed, settled }
    }

    /// Whether what was read under this stamp is what a path leads to now.
    pub fn holds(&self, path: &Path) -> bool {
        self.settled && Self::of(path).is_ok_and(|now| now == *self)
    }
}

/// Of several files, in their order.
#[derive(Debug, Clone)]
pub struct Stamps(Vec<Stamp>);

impl Stamps {
    /// Of what these paths lead to now; none where one of them cannot be looked at.
    pub fn of<'a>(paths: impl Iterator<Item = &'a Path>) -> Option<Self> {
        paths.map(|path| Stamp::of(path).ok()).collect::<Option<_>>().map(Self)
    }

    /// Whether all of these, the same paths, still lead to what was read.
    pub fn hold<'a>(&self, paths: impl Iterator<Item = &'a Path>) -> bool {
        self.0.iter().zip(paths).all(|(stamp, path)| stamp.holds(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_stamp_holds_until_the_file_is_another() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("web.yml");
        fs::write(&path, "a").unwrap();
        let late = SystemTime::now() + Duration::from_secs(60);
        let stamp = || Stamp::new(&fs::metadata(&path).unwrap(), late);
        let first = stamp();
        assert!(!Stamp::of(&path).unwrap().holds(&path), "just written");
        assert_eq!(stamp(), first);
        fs::write(&path, "ab").unwrap();
        assert_ne!(stamp(), first, "another size");
        let second = stamp();
        fs::write(directory.path().join("new"), "cd").unwrap();
        fs::rename(directory.path().join("new"), &path).unwrap();
        assert_ne!(stamp(), second, "another file of the same size");
        assert!(!first.holds(Path::new("/nonexistent")));
    }
}
