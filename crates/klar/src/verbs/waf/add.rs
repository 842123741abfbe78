//! `klar waf add`: a release of the Core Rule Set, from its folder or as the archive that is downloaded.

use std::fs;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use flate2::read::MultiGzDecoder;
use klar_base::upstreams::RuleFiles;
use klar_run::report::Failure;

use crate::context::{Context, Trouble};
use crate::out::{GOOD, paint};

/// The most that rules and what they name may have, in bytes. A release has 2 MB.
const BYTES_MAX: u64 = 32 << 20;

/// A file of a rule set: where it is below the set's folder, and what is in it.
type Files = Vec<(PathBuf, Vec<u8>)>;

/// The files of a rule set below its folder: settings first, then rules in the order of their names.
///
/// # Errors
/// There is none, or it cannot be read.
fn files(from: &Path) -> Result<Files, Trouble> {
    let hint = "name a release of the OWASP Core Rule Set: its folder, or its .tar.gz";
    if !from.exists() {
        return Err(Trouble::usage(Failure::new(format!("there is no {}", from.display())).hint(hint)));
    }
    let read = if from.is_dir() { of_folder(from) } else { of_archive(from) };
    let mut files = read.map_err(Trouble::system(from.display()))?;
    if !files.iter().any(|(path, _)| path.starts_with("rules")) {
        let failure = Failure::new(format!("{} is no rule set: it has no files in `rules`", from.display()));
        return Err(Trouble::usage(failure.hint(hint)));
    }
    files.sort();
    Ok(files)
}

/// The rules of a release, to try them.
///
/// # Errors
/// As [`add`].
pub fn read(from: &Path) -> Result<RuleFiles, Trouble> {
    let mut set = RuleFiles::default();
    for (path, contents) in files(from)? {
        // The example is for who has no settings.
        if path == Path::new("crs-setup.conf.example") && !set.rules.is_empty() {
            continue;
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let text = String::from_utf8_lossy(&contents).into_owned();
        let is_data = path.extension().is_some_and(|kind| kind == "data");
        if is_data { &mut set.data } else { &mut set.rules }.push((name, text));
    }
    Ok(set)
}

/// `klar waf add`.
pub fn add(context: &Context, from: &Path) -> Result<(), Trouble> {
    let files = files(from)?;
    let count = files.iter().filter(|(path, _)| path.starts_with("rules")).count();
    let to = context.layout.rule_set();
    let next = to.with_extension("new");
    let system = |path: &Path| Trouble::system(path.display().to_string());
    let _ = fs::remove_dir_all(&next);
    fs::create_dir_all(next.join("rules")).map_err(system(&next))?;
    for (path, contents) in files {
        let path = next.join(path);
        fs::write(&path, contents).map_err(system(&path))?;
    }
    let _ = fs::remove_dir_all(&to);
    fs::rename(&next, &to).map_err(system(&to))?;
    context.printer.story(format!(
        "{} {count} files; apps with `waf_rules = \"crs\"` below `[edge]` use them",
        paint(GOOD, "✓")
    ));
    Ok(())
}

/// Whether a file belongs to a rule set: rules, what they name, and settings.
fn belongs(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default();
    let kind = path.extension().is_some_and(|kind| kind == "conf" || kind == "data");
    match path.parent() {
        Some(parent) if parent == Path::new("rules") => kind,
        Some(parent) if parent == Path::new("") => {
            name == "crs-setup.conf" || name == "crs-setup.conf.example"
        }
        _ => false,
    }
}

fn of_folder(folder: &Path) -> io::Result<Files> {
    let mut files = Vec::new();
    let mut left = BYTES_MAX;
    for below in ["", "rules"] {
        let entries = match fs::read_dir(folder.join(below)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries?,
        };
        for entry in entries {
            let path = Path::new(below).join(entry?.file_name());
            if belongs(&path) && folder.join(&path).is_file() {
                let contents = within(&mut left, fs::File::open(folder.join(&path))?)?;
                files.push((path, contents));
            }
        }
    }
    Ok(files)
}

/// From a `.tar` or `.tar.gz`, in which everything lies in one folder.
fn of_archive(archive: &Path) -> io::Result<Files> {
    let mut file = io::BufReader::new(fs::File::open(archive)?);
    let mut begin = [0; 2];
    let count = file.read(&mut begin)?;
    let begin = io::Cursor::new(begin.get(..count).unwrap_or_default().to_vec());
    let whole = begin.clone().chain(file);
    let unpacked: Box<dyn Read> =
        if begin.get_ref() == &[0x1f, 0x8b] { Box::new(MultiGzDecoder::new(whole)) } else { Box::new(whole) };
    let mut files = Vec::new();
    // What is passed over is unpacked, too.
    let mut archive = tar::Archive::new(unpacked.take(8 * BYTES_MAX));
    let mut left = BYTES_MAX;
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let mut parts = path.components().filter(|part| *part != Component::CurDir);
        parts.next();
        let path: PathBuf = parts.collect();
        let is_plain = path.components().all(|part| matches!(part, Component::Normal(_)));
        if is_plain && belongs(&path) && entry.header().entry_type().is_file() {
            files.push((path, within(&mut left, &mut entry)?));
        }
    }
    Ok(files)
}

/// A whole file, if there is room for it.
fn within(left: &mut u64, file: impl Read) -> io::Result<Vec<u8>> {
    let mut contents = Vec::new();
    file.take(*left + 1).read_to_end(&mut contents)?;
    *left = left.checked_sub(contents.len() as u64).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, format!("more than {} MiB of rules", BYTES_MAX >> 20))
    })?;
    Ok(contents)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const SET: [(&str, &str); 6] = [
        ("crs-setup.conf.example", "# settings"),
        ("rules/REQUEST-1.conf", "SecRule"),
        ("rules/words.data", "nasty"),
        ("rules/README.md", "not a rule"),
        ("tests/rules/x.conf", "elsewhere"),
        ("INSTALL.conf", "elsewhere"),
    ];
    const WANTED: [&str; 3] = ["crs-setup.conf.example", "rules/REQUEST-1.conf", "rules/words.data"];

    fn names(mut files: Files) -> Vec<String> {
        files.sort();
        files.into_iter().map(|(path, _)| path.display().to_string()).collect()
    }

    #[test]
    fn a_folder_and_an_archive_have_the_same_files() {
        let folder = std::env::temp_dir().join(format!("klar-rule-set-{}", std::process::id()));
        let mut tar = tar::Builder::new(Vec::new());
        for (path, contents) in SET {
            fs::create_dir_all(folder.join("set").join(path).parent().unwrap()).unwrap();
            fs::write(folder.join("set").join(path), contents).unwrap();
            let mut header = tar::Header::new_gnu();
            header.set_size(contents.len() as u64);
            let path = format!("coreruleset-4.28.0/{path}");
            tar.append_data(&mut header, path, contents.as_bytes()).unwrap();
        }
        let tar = tar.into_inner().unwrap();
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(&tar).unwrap();
        assert_eq!(names(of_folder(&folder.join("set")).unwrap()), WANTED);
        for bytes in [tar, packed.finish().unwrap()] {
            let path = folder.join("archive");
            fs::write(&path, &bytes).unwrap();
            let files = of_archive(&path).unwrap();
            assert!(files.iter().any(|(_, contents)| contents == b"SecRule"));
            assert_eq!(names(files), WANTED);
            fs::write(&path, &bytes[..bytes.len() / 3]).unwrap();
            of_archive(&path).expect_err("it is not whole");
        }
        fs::remove_dir_all(folder).unwrap();
    }
}
