//! Shows a token to a service at a port: from SECRET, from the file that TOKEN_FILE names, or from standard input.

use std::io::{Read, Write};
use std::net::TcpStream;

fn main() {
    let mut token = String::new();
    if let Ok(file) = std::env::var("TOKEN_FILE") {
        token = std::fs::read_to_string(file).unwrap();
    } else if let Ok(secret) = std::env::var("SECRET") {
        token = secret;
    } else {
        std::io::stdin().read_to_string(&mut token).unwrap();
    }
    let port = std::env::args().nth(1).unwrap();
    let mut service = TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
    write!(service, "GET / HTTP/1.0\r\nAuthorization: Bearer {}\r\n\r\n", token.trim()).unwrap();
    let mut answer = String::new();
    service.read_to_string(&mut answer).unwrap();
    print!("{answer}");
}
