//! AMD's own certificates and revocation lists.

use blindferry_attest::snp::{Anchors, EndorsedVek, KeyKind, anchor, crl::Revocation};

use crate::{NOW, Outcome, Vector, same};

/// The certificates of the set are, byte for byte, those that this program has.
pub(crate) fn authorities(vector: &Vector) -> Outcome {
    let ours: Vec<_> = anchor::published().collect();
    same("how many", vector.files().len(), ours.len())?;
    for (path, der) in vector.files() {
        let (name, _) = path.rsplit('/').next().unwrap().rsplit_once('.').unwrap();
        let found = ours.iter().find(|published| published.der == der).map(|published| published.name.as_str());
        same(&path, found, Some(name))?;
    }
    Ok(())
}

/// The real list holds under the real root, for the time that it says; altered in a bit it does not.
pub(crate) fn revocation_list(vector: &Vector) -> Outcome {
    let crl = vector.file("crl").unwrap();
    let vek = vector.milan_vek();
    let endorse = |crl: &[u8]| EndorsedVek::endorse(KeyKind::Vcek, &[&vek], &[crl], &Anchors::amd(), NOW);
    let endorsed = endorse(&crl).map_err(|refusal| refusal.to_string())?;
    // 2025-05-06 12:39:06 and 2026-05-12 00:00:00, as the manifest says.
    same("this_update", vector.text("this_update"), "2025-05-06 12:39:06+00:00")?;
    same("next_update", vector.text("next_update"), "2026-05-12 00:00:00+00:00")?;
    let wanted = Revocation::NotRevoked { from: 1_746_535_146, until: 1_778_544_000 };
    same("what it says", endorsed.revocation(), wanted)?;
    let mut ignored = Vec::new();
    for bit in 0..crl.len() * 8 {
        let mut altered = crl.clone();
        altered[bit / 8] ^= 1 << (bit % 8);
        match endorse(&altered) {
            Err(_) => {}
            // Another issuer: a list of nobody we know, as good as none.
            Ok(endorsed) if endorsed.revocation() == Revocation::Unknown => ignored.push(bit / 8),
            Ok(_) => return Err(format!("a list with bit {bit} altered was believed")),
        }
    }
    ignored.dedup();
    println!("{}: {} bytes altered make it another issuer's list", vector.id(), ignored.len());
    Ok(())
}

impl Vector {
    /// A real VCEK of the product of the list.
    fn milan_vek(&self) -> Vec<u8> {
        self.named("microsoft-tav/milan-v3.vek.der")
    }
}
