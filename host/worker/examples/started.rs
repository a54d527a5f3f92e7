//! A program that was started with secrets, as an argument and as a variable; with `wipe` as its first argument it hides
//! them. Says that it is there, and stays until its standard input ends.

use std::env;
use std::error::Error;
use std::io::{self, Read};

fn main() -> Result<(), Box<dyn Error>> {
    let wipe = env::args().nth(1).is_some_and(|word| word == "wipe");
    if wipe {
        let mut start = blindferry_worker::wipe_start(&["SECRET"])?;
        let secret = start.take_secret("SECRET").map_or(0, |secret| secret.len());
        let gone = env::var_os("SECRET").is_none();
        println!(
            "{} words, {secret} secret bytes, gone: {gone}, HOME {:?}",
            start.arguments().len(),
            env::var("HOME")?
        );
    } else {
        println!("there");
    }
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
