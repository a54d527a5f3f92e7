//! Writes the certificates in `keys/` anew: `cargo run -p blindferry-amd --example certify`.

use std::{fs, io, path::Path};

use blindferry_amd::{Amd, certificate::pem};

fn main() -> io::Result<()> {
    let keys = Path::new(env!("CARGO_MANIFEST_DIR")).join("keys");
    for product in ["Milan", "Genoa", "Turin"] {
        let amd = Amd::anew(product);
        for (name, der) in [("ARK", &amd.ark_der), ("SEV", &amd.ask_der), ("SEV-VLEK", &amd.asvk_der)] {
            fs::write(keys.join(format!("{name}-{product}.pem")), pem(der))?;
        }
    }
    Ok(())
}
