//! Are our executables built so that a flaw in one is hard to use? Looked at as what they are, ELF files.
//!
//! `BLINDFERRY_EXECUTABLES` names a directory of others to look at, such as an installation or a release build.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use blindferry_tests::program::{missing, ours};
use object::Endianness;
use object::elf::{
    DF_1_NOW, DF_1_PIE, DF_BIND_NOW, DT_BIND_NOW, DT_FLAGS, DT_FLAGS_1, DT_NULL, DT_RPATH, DT_RUNPATH, DT_TEXTREL,
    ET_DYN, FileHeader64, PF_W, PF_X, PT_GNU_RELRO, PT_GNU_STACK, PT_LOAD, SHT_DYNSYM, SHT_SYMTAB,
};
use object::read::elf::{Dyn, FileHeader, ProgramHeader, Sym};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// All that are installed, and what of ring is linked into them. Rust's own functions have no canaries, since they do not
/// write past their arrays; the C libraries that the device process loads are the distribution's.
const EXECUTABLES: &[(&str, Linked)] = &[
    ("blindferry", Linked::C),
    ("blindferryd", Linked::C),
    ("blindferry-enclave", Linked::RustAlone),
    ("blindferry-vault", Linked::C),
    ("blindferry-device", Linked::C),
    ("blindferry-device-snp", Linked::C),
    ("blindferry-launch", Linked::Hash),
    ("blindferry-starter", Linked::RustAlone),
    ("blindferry-sandbox", Linked::RustAlone),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Linked {
    /// C with arrays, which have canaries.
    C,
    /// Its hash alone, in assembler. Some linkers keep the C beside it, which is never called, and some do not.
    Hash,
    /// Nothing.
    RustAlone,
}

/// What is wrong with an executable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    /// At an address that is known beforehand.
    NotPositionIndependent,
    /// Its tables of functions stay writable: no `PT_GNU_RELRO`, or not all is bound at the start.
    RelocationsWritable,
    /// Its stack can be executed.
    StackExecutable,
    /// A segment can be written and executed.
    WritableCode,
    /// Code is changed when it is loaded.
    TextRelocations,
    /// It says where to look for libraries.
    LibraryPath,
    /// C in it does not notice that it wrote past an array on the stack.
    NoStackProtector,
}

#[test]
fn each_of_our_executables_is_hardened() {
    for &(name, linked) in EXECUTABLES {
        let elf = Elf::read(&installed(name));
        assert_eq!(elf.faults(linked), BTreeSet::new(), "{name}");
        // The list says the truth, where the symbols are left to tell.
        if let Some(names) = elf.names(SHT_SYMTAB) {
            let has_ring = names.iter().any(|name| name.starts_with("ring_core_"));
            assert_eq!(has_ring, linked != Linked::RustAlone, "{name}");
        }
    }
}

#[test]
fn no_executable_of_ours_is_missing_from_the_list() {
    let built = fs::read_dir(ours("blindferry").parent().unwrap()).unwrap().map(|entry| entry.unwrap());
    let name = |entry: fs::DirEntry| entry.file_name().into_string().unwrap();
    let built: BTreeSet<String> = built.map(name).filter(|name| !name.contains('.')).collect();
    let of_tests =
        ["blindferry-attacker", "blindferry-upstream", "blindferry-scripted-worker", "blindferry-fake-guest"];
    let unknown: Vec<&String> = built
        .iter()
        .filter(|name| name.starts_with("blindferry"))
        .filter(|name| !of_tests.contains(&name.as_str()) && EXECUTABLES.iter().all(|(listed, _)| listed != name))
        .collect();
    assert!(unknown.is_empty(), "{unknown:?} is neither on the list nor a program of the tests");
}

#[test]
fn each_fault_is_found_in_a_program_that_was_built_with_it() {
    if missing(&["gcc"]) {
        return;
    }
    let hardened = ["-fPIE", "-pie", "-Wl,-z,relro,-z,now", "-Wl,-z,noexecstack", "-fstack-protector-strong"];
    assert_eq!(faults_of_c(SOURCE, &hardened), BTreeSet::new(), "a program without any");
    let lazy = faults_of_c(SOURCE, &[&hardened[..], &["-Wl,-z,lazy"]].concat());
    assert_eq!(lazy, BTreeSet::from([Fault::RelocationsWritable]));
    let norelro = faults_of_c(SOURCE, &[&hardened[..], &["-Wl,-z,norelro"]].concat());
    assert_eq!(norelro, BTreeSet::from([Fault::RelocationsWritable]));
    let fixed = faults_of_c(SOURCE, &[&hardened[..], &["-fno-pie", "-no-pie"]].concat());
    assert_eq!(fixed, BTreeSet::from([Fault::NotPositionIndependent]));
    let stack = faults_of_c(SOURCE, &[&hardened[..], &["-Wl,-z,execstack"]].concat());
    assert_eq!(stack, BTreeSet::from([Fault::StackExecutable]));
    for tags in ["-Wl,--enable-new-dtags", "-Wl,--disable-new-dtags"] {
        let path = faults_of_c(SOURCE, &[&hardened[..], &["-Wl,-rpath,/elsewhere", tags]].concat());
        assert_eq!(path, BTreeSet::from([Fault::LibraryPath]), "{tags}");
    }
    let unguarded = faults_of_c(SOURCE, &[&hardened[..], &["-fno-stack-protector"]].concat());
    assert_eq!(unguarded, BTreeSet::from([Fault::NoStackProtector]));
    let writable = format!("__asm__(\".section .both,\\\"awx\\\"\\n.byte 0\\n.text\");\n{SOURCE}");
    assert_eq!(faults_of_c(&writable, &hardened), BTreeSet::from([Fault::WritableCode]));
}

/// A function with an array, which is what a stack protector guards.
const SOURCE: &str = "#include <string.h>\n\
    __attribute__((noinline)) int work(const char *text) { char copy[64]; strcpy(copy, text); return copy[1]; }\n\
    int main(int count, char **words) { return work(words[count - 1]); }\n";

fn faults_of_c(source: &str, flags: &[&str]) -> BTreeSet<Fault> {
    let directory = tempfile::tempdir().unwrap();
    let (file, program) = (directory.path().join("program.c"), directory.path().join("program"));
    fs::write(&file, source).unwrap();
    let built = Command::new("gcc").args(flags).arg("-O1").arg("-o").arg(&program).arg(&file).output().unwrap();
    assert!(built.status.success(), "{flags:?}: {}", String::from_utf8_lossy(&built.stderr));
    Elf::read(&program).faults(Linked::C)
}

fn installed(name: &str) -> PathBuf {
    match std::env::var_os("BLINDFERRY_EXECUTABLES") {
        Some(directory) => Path::new(&directory).join(name),
        None => ours(name),
    }
}

/// A 64-bit ELF file.
struct Elf(Vec<u8>);

impl Elf {
    fn read(path: &Path) -> Self {
        Self(fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
    }

    fn header(&self) -> (&FileHeader64<Endianness>, Endianness) {
        let header = FileHeader64::parse(self.0.as_slice()).unwrap();
        (header, header.endian().unwrap())
    }

    fn faults(&self, linked: Linked) -> BTreeSet<Fault> {
        let (header, endian) = self.header();
        let segments = header.program_headers(endian, self.0.as_slice()).unwrap();
        let flags = |kind| segments.iter().filter(move |one| one.p_type(endian) == kind).map(|one| one.p_flags(endian));
        let both = |flags: u32| flags & PF_W != 0 && flags & PF_X != 0;
        let dynamic = self.dynamic();
        let value = |tag: i64| dynamic.iter().find(|(found, _)| *found == tag).map(|(_, value)| *value);
        let flag = |tag: i64, bit: u32| value(tag).is_some_and(|value| value & u64::from(bit) != 0);
        let at_once = flag(DT_FLAGS, DF_BIND_NOW) || flag(DT_FLAGS_1, DF_1_NOW) || value(DT_BIND_NOW).is_some();
        let guarded = || self.names(SHT_DYNSYM).is_some_and(|names| names.contains("__stack_chk_fail"));
        let found = [
            (Fault::NotPositionIndependent, header.e_type(endian) != ET_DYN || !flag(DT_FLAGS_1, DF_1_PIE)),
            (Fault::RelocationsWritable, flags(PT_GNU_RELRO).count() == 0 || !at_once),
            // Without the header the kernel takes the stack to be executable.
            (
                Fault::StackExecutable,
                flags(PT_GNU_STACK).count() != 1 || flags(PT_GNU_STACK).any(|one| one & PF_X != 0),
            ),
            (Fault::WritableCode, flags(PT_LOAD).count() == 0 || flags(PT_LOAD).any(both)),
            (Fault::TextRelocations, value(DT_TEXTREL).is_some()),
            (Fault::LibraryPath, value(DT_RPATH).is_some() || value(DT_RUNPATH).is_some()),
            (Fault::NoStackProtector, linked == Linked::C && !guarded()),
        ];
        found.into_iter().filter(|(_, is_there)| *is_there).map(|(fault, _)| fault).collect()
    }

    /// Tags and values that the loader goes by.
    fn dynamic(&self) -> Vec<(i64, u64)> {
        let (header, endian) = self.header();
        let segments = header.program_headers(endian, self.0.as_slice()).unwrap();
        let entries = segments.iter().find_map(|one| one.dynamic(endian, self.0.as_slice()).unwrap());
        let entries = entries.unwrap_or_default().iter().map(|entry| (entry.d_tag(endian), entry.d_val(endian)));
        entries.take_while(|(tag, _)| *tag != DT_NULL).collect()
    }

    /// The names in a table of symbols; nothing where it was stripped.
    fn names(&self, table: u32) -> Option<BTreeSet<String>> {
        let (header, endian) = self.header();
        let sections = header.sections(endian, self.0.as_slice()).unwrap();
        let symbols = sections.symbols(endian, self.0.as_slice(), table).unwrap();
        let name = |symbol: &object::elf::Sym64<Endianness>| symbol.name(endian, symbols.strings()).unwrap().to_vec();
        let names: BTreeSet<String> =
            symbols.iter().map(|symbol| String::from_utf8_lossy(&name(symbol)).into_owned()).collect();
        (!names.is_empty()).then_some(names)
    }
}
