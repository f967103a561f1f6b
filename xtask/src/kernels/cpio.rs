//! The archive that a kernel unpacks into its memory before it starts anything: cpio's "newc" form.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write as _},
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use anyhow::{Context as _, Result};

const FOLDER: u32 = 0o040_755;
const FILE: u32 = 0o100_000;

/// Writes everything below a folder; links are followed.
pub fn write(folder: &Path, to: &Path) -> Result<()> {
    let mut out = Archive { out: BufWriter::new(File::create(to)?), entries: 0 };
    out.below(folder, "").with_context(|| to.display().to_string())?;
    out.entry("TRAILER!!!", 0, &[])?;
    Ok(out.out.flush()?)
}

struct Archive<W> {
    out: W,
    entries: u32,
}

impl<W: io::Write> Archive<W> {
    fn below(&mut self, folder: &Path, name: &str) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let name = format!("{name}{}", path.file_name().unwrap_or_default().display());
            let about = fs::metadata(&path)?;
            if about.is_dir() {
                self.entry(&name, FOLDER, &[])?;
                self.below(&path, &format!("{name}/"))?;
            } else {
                self.entry(&name, FILE | about.mode() & 0o777, &fs::read(&path)?)?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        self.entries += 1;
        // Inode, mode, owner, group, links, time; then the size, four devices, the name's length with its end, no sum.
        let size = u32::try_from(content.len()).map_err(io::Error::other)?;
        let header = [self.entries, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name.len() as u32 + 1, 0];
        let header: String = header.iter().map(|number| format!("{number:08x}")).collect();
        self.padded(format!("070701{header}{name}\0").as_bytes())?;
        self.padded(content)
    }

    fn padded(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.out.write_all(&[0; 3][..bytes.len().wrapping_neg() % 4])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_fills_whole_words() {
        let mut archive = Archive { out: Vec::new(), entries: 0 };
        archive.entry("bin", FOLDER, &[]).unwrap();
        archive.entry("init", FILE | 0o755, b"#!/bin").unwrap();
        let text = String::from_utf8(archive.out).unwrap();
        assert_eq!(text.len(), (110 + 4 + 2) + (110 + 5 + 1 + 6 + 2));
        assert!(text.starts_with("07070100000001000041ed0000"), "{text}");
        assert!(text.contains("bin\0\0\x00070701") && text.ends_with("init\0\0#!/bin\0\0"), "{text:?}");
    }
}
