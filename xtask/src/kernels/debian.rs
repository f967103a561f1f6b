//! Debian's kernels for virtual machines ("cloud"), by apt: the newest of a series that any of the suites has.
//!
//! apt is given lists and a cache of its own, so that the host's packages stay as they are, and the mirrors that the host
//! takes its own packages from.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use xtask::sh;

use super::said;

/// A kernel and what has to be loaded into it.
#[derive(Debug, PartialEq, Eq)]
pub struct Kernel {
    /// As `uname -r` says it there.
    pub release: String,
    pub image: PathBuf,
    /// In the order in which they are loaded.
    pub modules: Vec<PathBuf>,
}

/// Where Debian has kernels, the oldest first; those of stable suites are renewed by the suite's updates for security.
const SUITES: &[&str] = &["bullseye", "bookworm", "trixie", "sid", "experimental"];
const UPDATED: &[&str] = &["bullseye", "bookworm", "trixie"];
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// What the tests need and these kernels have as modules; two of them are not asked for where there is tcx.
const MODULES: &[&str] = &["veth", "sch_ingress", "cls_bpf", "bonding", "8021q"];
/// A mirror of Debian, and one of its security updates, where the host is another's.
const MIRRORS: &str = "DEBIAN_MIRRORS";

/// The kernel of this series, fetched unless it is there already: what is there is not renewed.
pub fn kernel(cache: &Path, series: &str) -> Result<Kernel> {
    let folder = cache.join(series);
    let modules = match in_order(&folder) {
        Ok(modules) => modules,
        // Not there, or without a module that nobody needed when it was fetched.
        Err(_) => {
            fetch(cache, series, &folder)?;
            in_order(&folder)?
        }
    };
    let release = fs::read_to_string(folder.join("release"))?;
    Ok(Kernel { release, image: folder.join("vmlinuz"), modules })
}

fn fetch(cache: &Path, series: &str, folder: &Path) -> Result<()> {
    let apt = Apt::new(&cache.join("apt"))?;
    let image = apt.newest(series)?;
    println!("test: fetching Debian's {image}");
    let (work, part) = (cache.join("work"), cache.join("part"));
    for folder in [&work, &part] {
        let _ = fs::remove_dir_all(folder);
        fs::create_dir_all(folder)?;
    }
    let mut download = apt.command("apt-get");
    download.current_dir(&work).args(["--quiet", "download", &image]).args(apt.parts(&image)?);
    sh::stdout_of(&mut download)?;
    for package in files(&work)?.iter().filter(|path| path.extension().is_some_and(|e| e == "deb")) {
        sh::stdout_of(Command::new("dpkg").arg("-x").arg(package).arg(&work))?;
    }
    let files = files(&work)?;
    let find = |what: &str, fits: &dyn Fn(&str) -> bool| {
        let name = |path: &PathBuf| path.file_name().is_some_and(|name| fits(&name.to_string_lossy()));
        files.iter().find(|path| name(path)).cloned().with_context(|| format!("{image} has no {what}"))
    };
    fs::copy(find("vmlinuz", &|name| name.starts_with("vmlinuz"))?, part.join("vmlinuz"))?;
    let mut wanted: Vec<String> = MODULES.iter().map(ToString::to_string).collect();
    while let Some(module) = wanted.pop() {
        // A module's name has an underscore where its file's may have a hyphen.
        let [plain, packed] = ["ko", "ko.xz"].map(|end| format!("{module}.{end}"));
        let file = find(&module, &|name| [&plain, &packed].contains(&&name.replace('-', "_")))?;
        let bytes = if file.extension().is_some_and(|end| end == "xz") {
            Command::new("xz").arg("-dc").arg(&file).output().context("xz")?.stdout
        } else {
            fs::read(file)?
        };
        wanted.extend(needed(&bytes));
        fs::write(part.join(plain), bytes)?;
    }
    let release = image.strip_prefix("linux-image-").unwrap_or(&image);
    fs::write(part.join("release"), release)?;
    let _ = fs::remove_dir_all(folder);
    fs::rename(part, folder)?;
    Ok(fs::remove_dir_all(work)?)
}

/// The modules in a folder, each behind those that it needs.
fn in_order(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut out = Vec::new();
    MODULES.iter().try_for_each(|module| put(folder, module, &mut out))?;
    Ok(out)
}

fn put(folder: &Path, module: &str, out: &mut Vec<PathBuf>) -> Result<()> {
    let path = folder.join(format!("{module}.ko"));
    if !out.contains(&path) {
        let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
        needed(&bytes).iter().try_for_each(|module| put(folder, module, out))?;
        out.push(path);
    }
    Ok(())
}

/// The modules that a module says it needs.
fn needed(module: &[u8]) -> Vec<String> {
    const FIELD: &[u8] = b"\0depends=";
    let at = module.windows(FIELD.len()).position(|bytes| bytes == FIELD);
    let field =
        at.and_then(|at| module[at + FIELD.len()..].split(|byte| *byte == 0).next()).unwrap_or_default();
    let names = String::from_utf8_lossy(field);
    names.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// Every file below a folder.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut out = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        match entry.file_type()? {
            kind if kind.is_dir() => out.extend(files(&entry.path())?),
            _ => out.push(entry.path()),
        }
    }
    Ok(out)
}

/// apt, with lists of its own.
struct Apt {
    options: Vec<String>,
}

impl Apt {
    fn new(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder.join("lists/partial"))?;
        fs::create_dir_all(folder.join("archives/partial"))?;
        let sources = folder.join("sources.list");
        fs::write(&sources, self::sources(&mirrors()?))?;
        let options = [
            format!("Dir::Etc::SourceList={}", sources.display()),
            "Dir::Etc::SourceParts=/dev/null".to_owned(),
            format!("Dir::State::Lists={}", folder.join("lists").display()),
            format!("Dir::Cache={}", folder.display()),
            // The lists alone: neither descriptions nor what programs with windows ask for.
            "Acquire::Languages=none".to_owned(),
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned(),
            "APT::Sandbox::User=root".to_owned(),
            "APT::Architecture=amd64".to_owned(),
        ];
        let apt =
            Self { options: options.into_iter().flat_map(|option| ["-o".to_owned(), option]).collect() };
        sh::stdout_of(apt.command("apt-get").args(["-qq", "update"]))?;
        Ok(apt)
    }

    fn command(&self, program: &str) -> Command {
        let mut cmd = Command::new(program);
        cmd.args(&self.options).env("LC_ALL", "C");
        cmd
    }

    /// The package of the newest kernel of a series.
    fn newest(&self, series: &str) -> Result<String> {
        let pattern = format!("^linux-image-{}[-.].*cloud-amd64$", series.replace('.', "\\."));
        let found = sh::stdout_of(self.command("apt-cache").args(["search", "--names-only", &pattern]))?;
        let names: Vec<&str> = found.lines().filter_map(|line| line.split(' ').next()).collect();
        let abouts = if names.is_empty() { String::new() } else { self.about(&names)? };
        newest(&abouts).map(str::to_owned).with_context(|| {
            format!("Debian has no kernel {series} in {} at these mirrors", SUITES.join(", "))
        })
    }

    fn about(&self, packages: &[&str]) -> Result<String> {
        sh::stdout_of(self.command("apt-cache").args(["show", "--no-all-versions"]).args(packages))
    }

    /// The packages of the kernel itself and of its modules, where the one of its name is no more than a list.
    fn parts(&self, image: &str) -> Result<Vec<String>> {
        let about = self.about(&[image])?;
        let needed = field(&about, "Depends").unwrap_or_default().split(", ");
        let names = needed.filter_map(|need| need.split(' ').next());
        let ours =
            |name: &&str| ["linux-binary-", "linux-modules-"].iter().any(|part| name.starts_with(part));
        Ok(names.filter(ours).map(str::to_owned).collect())
    }
}

/// A field of a package's description.
fn field<'a>(about: &'a str, name: &str) -> Option<&'a str> {
    about.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

/// The newest of the packages described here, one paragraph each; those that only name others are passed over.
fn newest(abouts: &str) -> Option<&str> {
    let mut newest: Option<(&str, &str)> = None;
    for about in abouts.split("\n\n").filter(|about| !about.contains("meta-package")) {
        let (Some(name), Some(version)) = (field(about, "Package"), field(about, "Version")) else {
            continue;
        };
        if newest.is_none_or(|(_, best)| newer(version, best)) {
            newest = Some((name, version));
        }
    }
    newest.map(|(name, _)| name)
}

fn newer(version: &str, than: &str) -> bool {
    Command::new("dpkg").args(["--compare-versions", version, "gt", than]).status().is_ok_and(|s| s.success())
}

/// Where this host's own packages come from, if it is Debian: `[Debian, its security updates]`.
fn mirrors() -> Result<[String; 2]> {
    if let Ok(named) = env::var(MIRRORS) {
        let mut named = named.split_whitespace().map(str::to_owned);
        if let (Some(debian), Some(security)) = (named.next(), named.next()) {
            return Ok([debian, security]);
        }
        bail!("${MIRRORS} has to name two places: Debian's packages, and its security updates");
    }
    let targets = said(
        "apt-get",
        &["indextargets", "--format", "$(ORIGIN) $(LABEL) $(REPO_URI)", "Created-By: Packages"],
    )?;
    own(&targets).with_context(|| {
        format!("this host takes no packages from Debian: name a mirror and one of security updates in ${MIRRORS}, separated by a blank")
    })
}

fn own(targets: &str) -> Option<[String; 2]> {
    let place = |label: &str| {
        let line = targets.lines().find_map(|line| line.strip_prefix(label)?.strip_prefix(' '));
        line.map(str::to_owned)
    };
    Some([place("Debian Debian")?, place("Debian Debian-Security")?])
}

/// The lines that apt reads.
fn sources([debian, security]: &[String; 2]) -> String {
    let line = |mirror: &str, suite: &str| format!("deb [signed-by={KEYRING}] {mirror} {suite} main\n");
    let suites = SUITES.iter().map(|suite| line(debian, suite));
    let updates = UPDATED.iter().map(|suite| line(security, &format!("{suite}-security")));
    suites.chain(updates).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_are_those_of_the_host() {
        let targets = "Debian Debian http://a/debian/\nOther Other http://o/\nDebian Debian-Security http://a/security/\n";
        let mirrors = own(targets).unwrap();
        assert_eq!(mirrors, ["http://a/debian/", "http://a/security/"]);
        assert_eq!(own("Ubuntu Ubuntu http://u/\n"), None);
        let sources = sources(&mirrors);
        assert!(sources.contains("http://a/security/ trixie-security main\n"), "{sources}");
        assert!(
            sources.contains("http://a/debian/ sid main\n") && !sources.contains("sid-security"),
            "{sources}"
        );
    }

    #[test]
    fn the_newest_is_taken() {
        let about = |name: &str, version: &str| {
            format!("Package: {name}\nVersion: {version}\nDescription: {name}\n\n")
        };
        let all = about("a", "6.12.9-1")
            + &about("b", "6.12.118-1")
            + &about("meta-package", "9")
            + &about("c", "6.12.95-1");
        assert_eq!((newest(&all), newest("")), (Some("b"), None));
    }

    #[test]
    fn what_a_module_needs_is_loaded_before_it() {
        assert_eq!(needed(b"\x7fELF\0license=GPL\0depends=garp,mrp\0name=8021q\0"), ["garp", "mrp"]);
        assert!(needed(b"\x7fELF\0depends=\0").is_empty() && needed(b"\x7fELF").is_empty());
    }

    #[test]
    fn fields_are_read_by_their_whole_name() {
        let about = "Version: 7.2.13-1\nDepends: a, b (= 1)\nPre-Depends: c\n";
        assert_eq!((field(about, "Depends"), field(about, "Size")), (Some("a, b (= 1)"), None));
    }
}
