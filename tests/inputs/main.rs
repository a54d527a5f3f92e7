//! The committed inputs of the fuzzer, without a fuzzer: each target takes each of them, and takes the good ones to its end.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{collections::BTreeMap, env, fs, path::Path};

#[cfg(test)]
#[expect(dead_code, reason = "of another test")]
#[path = "../../attest/tests/judgement/boot.rs"]
mod boot;
#[cfg(test)]
mod evidence;
#[cfg(test)]
#[path = "../../attest/tests/measured/firmware.rs"]
mod firmware;
#[cfg(test)]
#[expect(unreachable_pub, reason = "a library to the fuzzer")]
#[path = "../fuzz/src/lib.rs"]
mod fuzz;
#[cfg(test)]
#[path = "../../attest/tests/measured/image.rs"]
mod image;
#[cfg(test)]
mod messages;
#[cfg(test)]
#[path = "../../attest/tests/judgement/synthetic.rs"]
mod synthetic;
#[cfg(test)]
mod written;

/// Inputs by target, then by name.
type Inputs = BTreeMap<String, BTreeMap<String, Vec<u8>>>;
/// Takes an input: its target, its name, its bytes.
type Put<'a> = dyn FnMut(&str, &str, Vec<u8>) + 'a;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus");

/// What the fuzzer starts from: small, and good, so that altering it goes deep.
fn seeds() -> Inputs {
    let mut seeds = Inputs::new();
    let mut put = |target: &str, name: &str, bytes: Vec<u8>| {
        seeds.entry(target.to_owned()).or_default().insert(name.to_owned(), bytes);
    };
    evidence::all(&mut put);
    messages::all(&mut put);
    written::all(&mut put);
    seeds
}

/// Each with its length in front, as the targets cut them apart.
fn parts(parts: &[&[u8]]) -> Vec<u8> {
    let mut out = vec![];
    parts.iter().for_each(|part| synthetic::sized(&mut out, part));
    out
}

fn committed() -> Inputs {
    let entries = |folder: &Path| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    let inputs = |folder: &Path| entries(folder).map(|path| (name(&path), fs::read(path).unwrap())).collect();
    entries(Path::new(FOLDER)).map(|folder| (name(&folder), inputs(&folder))).collect()
}

/// With `BLINDFERRY_WRITE_SEEDS` they are written, so that the fuzzer starts from them.
#[test]
fn each_seed_gets_to_the_end_of_its_target() {
    let seeds = seeds();
    for (target, run) in fuzz::TARGETS {
        let inputs = seeds.get(*target).unwrap_or_else(|| panic!("{target} has no seed"));
        for (name, bytes) in inputs {
            assert!(run(bytes), "{target}: {name}");
        }
    }
    assert_eq!(seeds.len(), fuzz::TARGETS.len());
    if env::var_os("BLINDFERRY_WRITE_SEEDS").is_some() {
        for (target, inputs) in seeds {
            let folder = Path::new(FOLDER).join(target);
            fs::create_dir_all(&folder).unwrap();
            inputs.iter().for_each(|(name, bytes)| fs::write(folder.join(name), bytes).unwrap());
        }
    }
}

#[test]
fn each_committed_input_is_taken_by_its_target_and_all_of_them_stay_small() {
    let inputs = committed();
    let mut total = 0;
    for (target, run) in fuzz::TARGETS {
        let inputs = inputs.get(*target).unwrap_or_else(|| panic!("{target} has no inputs"));
        let deep = inputs.values().filter(|bytes| run(bytes)).count();
        println!("{target}: {} inputs, {deep} to the end", inputs.len());
        assert!(deep > 0, "{target}: no input gets to its end");
        total += inputs.values().map(Vec::len).sum::<usize>();
    }
    assert_eq!(inputs.len(), fuzz::TARGETS.len(), "folders of targets that are none");
    assert!(total < 300 * 1024, "{total} bytes");
}
