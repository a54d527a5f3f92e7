//! A program that knows of the launcher: takes the token of the credential that it is told, and prints its length.

use std::error::Error;
use std::io;

fn main() -> Result<(), Box<dyn Error>> {
    let credential = std::env::args().nth(1).ok_or_else(|| io::Error::other("which credential?"))?;
    let token = blindferry_worker::delivered::take(&credential)?;
    println!("{} bytes, {}", token.len(), token.token_type());
    Ok(())
}
