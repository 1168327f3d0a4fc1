//! The hostile archives are made here, byte by byte: the builder of the tar crate refuses to make them.

use std::{io::Write, os::unix::fs::PermissionsExt};

use flate2::{Compression, write::GzEncoder};
use proptest::prelude::*;
use tar::Header;

use super::*;

/// One entry, as an attacker may write it.
#[derive(Debug)]
struct Entry {
    kind: u8,
    name: Vec<u8>,
    link: Vec<u8>,
    mode: u32,
    declared: Option<u64>,
    data: Vec<u8>,
}

fn entry(kind: u8, name: impl AsRef<[u8]>) -> Entry {
    let name = name.as_ref().to_vec();
    Entry { kind, name, link: Vec::new(), mode: 0o644, declared: None, data: Vec::new() }
}

fn file(name: impl AsRef<[u8]>, data: &[u8]) -> Entry {
    Entry { data: data.to_vec(), ..entry(b'0', name) }
}

fn dir(name: &str) -> Entry {
    Entry { mode: 0o755, ..entry(b'5', name) }
}

fn link(kind: u8, name: &str, target: impl AsRef<[u8]>) -> Entry {
    Entry { link: target.as_ref().to_vec(), ..entry(kind, name) }
}

fn symlink(name: &str, target: &str) -> Entry {
    link(b'2', name, target)
}

fn pax(records: &[(&str, &str)]) -> Entry {
    let mut data = Vec::new();
    for (key, value) in records {
        let rest = format!(" {key}={value}\n").len();
        let digits = |n: usize| n.to_string().len();
        let mut length = rest + digits(rest);
        length = rest + digits(length);
        writeln!(data, "{length} {key}={value}").unwrap();
    }
    Entry { data, ..entry(b'x', "pax") }
}

impl Entry {
    fn mode(self, mode: u32) -> Self {
        Self { mode, ..self }
    }

    fn declares(self, size: u64) -> Self {
        Self { declared: Some(size), ..self }
    }

    fn write(&self, to: &mut Vec<u8>) {
        let mut header = Header::new_ustar();
        let block = header.as_mut_bytes();
        block[..self.name.len().min(100)].copy_from_slice(&self.name[..self.name.len().min(100)]);
        block[157..157 + self.link.len().min(100)].copy_from_slice(&self.link[..self.link.len().min(100)]);
        block[156] = self.kind;
        header.set_mode(self.mode);
        header.set_size(self.declared.unwrap_or(self.data.len() as u64));
        header.set_cksum();
        to.extend_from_slice(header.as_bytes());
        to.extend_from_slice(&self.data);
        to.resize(to.len().next_multiple_of(512), 0);
    }
}

fn tar(entries: &[Entry]) -> Vec<u8> {
    let mut tar = Vec::new();
    for e in entries {
        e.write(&mut tar);
    }
    tar.resize(tar.len() + 1024, 0);
    tar
}

fn gz(data: &[u8]) -> Vec<u8> {
    let mut gz = GzEncoder::new(Vec::new(), Compression::fast());
    gz.write_all(data).unwrap();
    gz.finish().unwrap()
}

const SMALL: Limits = Limits { entries: 50, file: 1 << 20, total: 4 << 20, names: 64 << 10 };

/// Unpacks into `<box>/in/to`. All that an archive could reach from there lies in `<box>`, where the tests look.
fn unpack(archive: &[u8]) -> (Result<Vec<FileRecord>>, tempfile::TempDir) {
    let sandbox = tempfile::tempdir().unwrap();
    let to = sandbox.path().join("in/to");
    fs::create_dir_all(&to).unwrap();
    fs::write(sandbox.path().join("secret"), "untouched").unwrap();
    fs::write(sandbox.path().join("in/secret"), "untouched").unwrap();
    let result = tar_gz(archive, &to, SMALL);
    assert_untouched(sandbox.path());
    (result, sandbox)
}

fn assert_untouched(sandbox: &Path) {
    let names = |dir: &Path| {
        let mut names = disk::entries(dir).iter().map(|p| p.file_name().unwrap().to_owned()).collect::<Vec<_>>();
        names.sort();
        names
    };
    assert_eq!(names(sandbox), ["in", "secret"], "something was written outside");
    assert_eq!(names(&sandbox.join("in")), ["secret", "to"], "something was written outside");
    for secret in ["secret", "in/secret"] {
        assert_eq!(fs::read(sandbox.join(secret)).unwrap(), b"untouched");
    }
}

fn hostile() -> Vec<(&'static str, Vec<u8>)> {
    let archive = |entries: &[Entry]| gz(&tar(entries));
    let mut bad_checksum = tar(&[file("a", b"x")]);
    bad_checksum[0] = b'b';
    let whole = gz(&tar(&[file("a", &[7; 5000])]));
    let mut bad_crc = whole.clone();
    let crc = bad_crc.len() - 8;
    bad_crc[crc] ^= 1;
    let mut garbage_behind = whole.clone();
    garbage_behind.extend_from_slice(b"garbage behind the stream");
    let mut endless = tar(&[file("a", b"x")]);
    endless.resize(5 << 20, 0);
    let many = (0..60).map(|i| file(format!("f{i}"), b"")).collect::<Vec<_>>();
    let long = |kind: u8, name: &[u8]| Entry { data: name.to_vec(), ..entry(kind, "././@LongLink") };
    vec![
        ("leaves by ..", archive(&[file("../secret", b"x")])),
        ("leaves by .. in the middle", archive(&[file("a/../../secret", b"x")])),
        ("leaves by .. at the end of a directory", archive(&[dir("a/..")])),
        ("turns back inside", archive(&[file("a/../b", b"x")])),
        ("absolute", archive(&[file("/tmp/lima-runtime-hostile", b"x")])),
        ("absolute with two slashes", archive(&[file("//tmp/lima-runtime-hostile", b"x")])),
        ("absolute directory", archive(&[dir("/tmp/lima-runtime-hostile")])),
        ("leaves by a GNU long name", archive(&[long(b'L', b"../secret\0"), file("a", b"x")])),
        ("leaves by a pax path", archive(&[pax(&[("path", "../secret")]), file("a", b"x")])),
        ("absolute pax path", archive(&[pax(&[("path", "/tmp/lima-runtime-hostile")]), file("a", b"x")])),
        ("leaves in Windows' way", archive(&[file("..\\secret", b"x")])),
        ("a drive of Windows", archive(&[file("C:\\secret", b"x")])),
        ("symlink out", archive(&[symlink("a", "../secret")])),
        ("symlink out, absolute", archive(&[symlink("a", "/etc/passwd")])),
        ("symlink out from deep inside", archive(&[symlink("a/b/c", "../../../../secret")])),
        ("symlink that turns back on its way", archive(&[symlink("a/l", "b/../../../secret")])),
        ("symlink by a pax target", archive(&[pax(&[("linkpath", "../../secret")]), symlink("a", "b")])),
        ("symlink by a GNU long target", archive(&[long(b'K', b"/etc/passwd\0"), symlink("a", "b")])),
        ("symlink to nowhere", archive(&[symlink("a", "")])),
        ("a chain of links that climbs", archive(&[symlink("d/up", ".."), symlink("d/out", "up/../../secret")])),
        ("a file through a symlink", archive(&[symlink("a", "b"), file("a/secret", b"x")])),
        ("a file over a symlink", archive(&[symlink("a", "b"), file("a", b"x")])),
        ("a directory over a symlink", archive(&[symlink("a", "b"), dir("a")])),
        ("hard link out", archive(&[link(b'1', "a", "../secret")])),
        ("hard link out, absolute", archive(&[link(b'1', "a", "/etc/passwd")])),
        ("hard link to what comes later", archive(&[link(b'1', "a", "b"), file("b", b"x")])),
        ("hard link to a symlink", archive(&[symlink("s", "b"), link(b'1', "a", "s")])),
        ("hard link to a directory", archive(&[dir("d"), link(b'1', "a", "d")])),
        ("character device", archive(&[entry(b'3', "null")])),
        ("block device", archive(&[entry(b'4', "sda")])),
        ("named pipe", archive(&[entry(b'6', "pipe")])),
        ("an unknown kind", archive(&[entry(b'Z', "a")])),
        ("a sparse file of GNU", archive(&[entry(b'S', "a")])),
        ("a sparse file of pax", archive(&[pax(&[("GNU.sparse.major", "1")]), file("a", b"x")])),
        ("the same name twice", archive(&[file("a", b"x"), file("a", b"y")])),
        ("the same name, otherwise spelt", archive(&[file("a", b"x"), file("./a", b"y")])),
        ("names that differ in case", archive(&[file("readme", b"x"), file("README", b"y")])),
        ("names that differ in another alphabet's case", archive(&[file("straße", b"x"), file("STRAßE", b"y")])),
        ("directories that differ in case", archive(&[file("bin/a", b"x"), file("BIN/b", b"y")])),
        ("a file where a directory is", archive(&[file("a/b", b"x"), file("a", b"y")])),
        ("a directory where a file is", archive(&[file("a", b"x"), file("a/b", b"y")])),
        ("a declared size beyond the limit", archive(&[file("a", b"").declares(2 << 20)])),
        ("a declared size beyond all bounds", archive(&[file("a", b"").declares(u64::MAX / 2)])),
        (
            "more than it declares",
            gz(&{
                let mut t = tar(&[file("a", &[b'y'; 700]).declares(1)]);
                t.truncate(1536);
                t
            }),
        ),
        ("less than it declares", gz(&tar(&[file("a", b"x").declares(100_000)]))),
        (
            "larger in all than the limit",
            archive(&(0..5).map(|i| file(format!("f{i}"), &vec![0; 1 << 20])).collect::<Vec<_>>()),
        ),
        ("zeros without end behind the last entry", gz(&endless)),
        ("too many entries", archive(&many)),
        ("a name without measure", archive(&[long(b'L', &vec![b'a'; 100_000]), file("a", b"x")])),
        ("a pax header without measure", archive(&[pax(&[("comment", &"c".repeat(100_000))]), file("a", b"x")])),
        ("a global header without measure", archive(&[Entry { data: vec![b' '; 100_000], ..entry(b'g', "g") }])),
        ("a name too long for any disk", archive(&[long(b'L', &[b'a'; 300]), file("a", b"x")])),
        ("a path too long", archive(&[long(b'L', "d/".repeat(600).as_bytes()), file("a", b"x")])),
        ("two sizes", archive(&[pax(&[("size", "7")]), file("a", b"x")])),
        ("a size that is none", archive(&[pax(&[("size", "-1")]), file("a", b"x")])),
        ("two long names", archive(&[long(b'L', b"b"), long(b'L', b"c"), file("a", b"x")])),
        ("a long name for nothing", archive(&[long(b'L', b"b")])),
        (
            "a pax header that is none",
            archive(&[Entry { data: b"nonsense".to_vec(), ..entry(b'x', "p") }, file("a", b"")]),
        ),
        ("a name that is no text", archive(&[file([0xff, 0xfe, b'a'], b"x")])),
        ("a name with a newline", archive(&[file("a\nb", b"x")])),
        ("a pax name with a NUL", archive(&[pax(&[("path", "a\0b")]), file("a", b"x")])),
        ("no name", archive(&[file("", b"x")])),
        ("a file named like the root", archive(&[file("./", b"x")])),
        ("a directory with contents", archive(&[Entry { data: vec![1; 10], ..dir("a") }])),
        ("a wrong checksum of a header", gz(&bad_checksum)),
        ("a wrong checksum of the stream", bad_crc),
        ("cut in the middle", whole[..whole.len() / 2].to_vec()),
        ("cut in the middle of a header", gz(&tar(&[file("a", b"x")])[..300])),
        ("garbage behind the stream", garbage_behind),
        ("no gzip", b"PK\x03\x04 this is a zip file, or a page of HTML".to_vec()),
        ("nothing at all", Vec::new()),
    ]
}

#[test]
fn a_hostile_archive_is_refused_and_writes_nothing_outside() {
    let corpus = hostile();
    assert!(corpus.len() >= 25);
    for (what, archive) in corpus {
        let (result, _sandbox) = unpack(&archive);
        let e = result.map(|files| format!("{files:?}")).expect_err(what);
        assert_eq!(e.code(), ErrorCode::ArchiveUnsafe, "{what}: {e}");
        assert!(e.details().contains_key("entry"), "{what}");
    }
    assert!(!Path::new("/tmp/lima-runtime-hostile").exists());
}

/// As `make artifacts` of Lima packs it: `./` first, no directory on top, one relative link
/// (docs/reference/lima.md#release-archive).
#[test]
fn an_archive_like_limas_is_unpacked_as_it_is() {
    let archive = gz(&tar(&[
        dir("./"),
        dir("./bin/"),
        file("./bin/limactl", b"program").mode(0o755),
        file("./bin/lima", b"#!/bin/sh\n").mode(0o4777),
        dir("./share/"),
        dir("./share/doc/"),
        dir("./share/doc/lima/"),
        symlink("./share/doc/lima/templates", "../../lima/templates"),
        dir("./share/lima/"),
        dir("./share/lima/templates/"),
        file("./share/lima/templates/default.yaml", b"images: []\n"),
        file("./share/lima/lima-guestagent.Linux-x86_64.gz", &vec![9; 300_000]).mode(0o444),
        link(b'1', "./bin/lima-again", "./bin/lima"),
        pax(&[("path", "./share/a/name/longer/than/any/header")]),
        file("./x", b"long"),
    ]));
    let (files, sandbox) = unpack(&archive);
    let files = files.unwrap();
    let root = sandbox.path().join("in/to");
    assert_eq!(fs::read(root.join("share/doc/lima/templates/default.yaml")).unwrap(), b"images: []\n");
    assert_eq!(fs::read(root.join("share/a/name/longer/than/any/header")).unwrap(), b"long");
    assert_eq!(fs::read(root.join("bin/lima-again")).unwrap(), b"#!/bin/sh\n");
    let mode = |p: &str| fs::metadata(root.join(p)).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode("bin/limactl"), 0o755);
    assert_eq!(mode("bin/lima"), 0o755, "no set-uid bit, and nobody else's to change");
    assert_eq!(mode("share/lima/templates/default.yaml"), 0o644);
    assert_eq!(mode("share/lima/lima-guestagent.Linux-x86_64.gz"), 0o644, "its owner can replace it");
    let paths = files.iter().map(|f| f.path.as_str()).collect::<Vec<_>>();
    assert!(paths.is_sorted() && paths.len() == 7, "{paths:?}");
    assert!(files.iter().any(|f| f.content == Content::Link { link: "../../lima/templates".into() }));
    assert_eq!(super::super::record::damaged(&root, &files, super::super::record::Look::Digest, |_| false).count(), 0);
}

#[test]
fn a_stream_of_several_members_is_one_archive() {
    let tar = tar(&[file("a", &[1; 3000]), file("b", b"x")]);
    let (one, two) = tar.split_at(1000);
    let (files, _sandbox) = unpack(&[gz(one), gz(two)].concat());
    assert_eq!(files.unwrap().len(), 2);
}

#[test]
fn names_windows_cannot_hold() {
    for bad in ["a:b", "CON", "con.txt", "NUL .txt", "COM1", "LPT9.log", "a.", "a ", "a?", "a|b", "CONOUT$"] {
        assert!(!fit_for_windows(bad), "{bad}");
    }
    for good in ["limactl.exe", "console", "COM", "com10", ".hidden", "a.b.c", "lima-guestagent.Linux-x86_64.gz"] {
        assert!(fit_for_windows(good), "{good}");
    }
}

fn any_name() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        Just("..".to_owned()),
        Just(".".to_owned()),
        Just(String::new()),
        Just("secret".to_owned()),
        "[abAB]",
        "\\PC{0,4}",
    ];
    prop_oneof![
        4 => proptest::collection::vec(part, 0..5).prop_map(|p| p.join("/").into_bytes()),
        1 => proptest::collection::vec(any::<u8>(), 0..90),
    ]
}

fn any_entry() -> impl Strategy<Value = Entry> {
    let kind = prop_oneof![5 => Just(b'0'), 3 => Just(b'5'), 4 => Just(b'2'), 2 => Just(b'1'), 1 => Just(b'L'),
        1 => Just(b'K'), 1 => Just(b'x'), 1 => any::<u8>()];
    let data = prop_oneof![
        any_name(),
        proptest::collection::vec(any::<u8>(), 0..600),
        any_name().prop_map(|n| pax(&[("path", &String::from_utf8_lossy(&n))]).data),
        any_name().prop_map(|n| pax(&[("linkpath", &String::from_utf8_lossy(&n))]).data),
    ];
    let declared = prop_oneof![9 => Just(None), 1 => any::<u64>().prop_map(|n| Some(n % (1 << 33)))];
    (kind, any_name(), any_name(), any::<u32>(), declared, data).prop_map(|(kind, name, link, mode, declared, data)| {
        let data = if matches!(kind, b'2' | b'5' | b'1') { Vec::new() } else { data };
        Entry { kind, name, link, mode: mode & 0o7777, declared, data }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// Whatever an archive says: it is unpacked below the directory, as recorded, or refused.
    #[test]
    fn nothing_leaves_the_directory(entries in proptest::collection::vec(any_entry(), 0..8)) {
        let (result, sandbox) = unpack(&gz(&tar(&entries)));
        match result {
            Ok(files) => {
                let root = sandbox.path().join("in/to").canonicalize().unwrap();
                for f in &files {
                    let path = root.join(&f.path);
                    prop_assert!(fs::symlink_metadata(&path).is_ok(), "{f:?}");
                    // Where a link leads to something, it lies inside.
                    if let Ok(real) = path.canonicalize() {
                        prop_assert!(real.starts_with(&root), "{f:?} leads to {}", real.display());
                    }
                }
            }
            Err(e) => prop_assert_eq!(e.code(), ErrorCode::ArchiveUnsafe, "{}", e),
        }
    }

    #[test]
    fn any_bytes_are_refused_or_unpacked(bytes in proptest::collection::vec(any::<u8>(), 0..2000), compressed: bool) {
        let (result, _sandbox) = if compressed { unpack(&gz(&bytes)) } else { unpack(&bytes) };
        if let Err(e) = result {
            prop_assert_eq!(e.code(), ErrorCode::ArchiveUnsafe, "{}", e);
        }
    }
}

/// Unpacks a copy into `<box>/to`.
fn copy(archive: &[u8], limits: Limits) -> (Result<Vec<FileRecord>>, tempfile::TempDir) {
    let sandbox = tempfile::tempdir().unwrap();
    let to = sandbox.path().join("to");
    fs::create_dir(&to).unwrap();
    let root = HeldDir::open(&to, Links::Followed).unwrap();
    (super::tar(archive, &root, limits, Purpose::Copy), sandbox)
}

/// As Go's writer has a file of more than 8 GiB: the header itself has no room for the size.
#[test]
fn a_size_that_only_stands_before_the_header() {
    let block = |data: &[u8]| Entry { declared: Some(0), ..file("a", data) };
    let archive = tar(&[pax(&[("size", "600")]), block(&[7; 600]), file("b", b"behind")]);
    let (result, sandbox) = copy(&archive, COPIED);
    result.unwrap();
    assert_eq!(fs::read(sandbox.path().join("to/a")).unwrap(), [7; 600]);
    assert_eq!(fs::read(sandbox.path().join("to/b")).unwrap(), b"behind");
}

#[test]
fn a_copy_keeps_modes_but_no_power_of_its_owners_and_makes_holes() {
    let mut data = vec![0; 1 << 20];
    data[500_000] = 1;
    let archive = tar(&[dir("d").mode(0o7777), file("d/f", &data).mode(0o6777), file("d/end", &[0; 9000])]);
    let (result, sandbox) = copy(&archive, COPIED);
    result.unwrap();
    let at = |name: &str| fs::metadata(sandbox.path().join("to").join(name)).unwrap();
    assert_eq!((at("d").permissions().mode() & 0o7777, at("d/f").permissions().mode() & 0o7777), (0o777, 0o777));
    assert_eq!(fs::read(sandbox.path().join("to/d/f")).unwrap(), data);
    assert!(std::os::unix::fs::MetadataExt::blocks(&at("d/f")) * 512 < 1 << 18);
    assert_eq!(fs::read(sandbox.path().join("to/d/end")).unwrap(), [0; 9000]);
}

/// A million of long names would fill the memory.
#[test]
fn the_names_of_a_copy_have_a_limit() {
    let limits = Limits { names: 10_000, ..COPIED };
    let many = |n: usize| tar(&(0..n).map(|i| file(format!("{i:090}"), b"")).collect::<Vec<_>>());
    copy(&many(100), limits).0.unwrap();
    assert_eq!(copy(&many(120), limits).0.unwrap_err().code(), ErrorCode::ArchiveUnsafe);
    let links = tar(&(0..120).map(|i| symlink(&format!("{i}"), &"x".repeat(90))).collect::<Vec<_>>());
    assert_eq!(copy(&links, limits).0.unwrap_err().code(), ErrorCode::ArchiveUnsafe);
    let again = tar(&(0..120).map(|_| dir(&"d".repeat(90))).collect::<Vec<_>>());
    assert_eq!(copy(&again, limits).0.unwrap_err().code(), ErrorCode::ArchiveUnsafe);
}
