//! Makes the certificate that the servers of the TLS rows show: PEM, the key and then the
//! certificate, on standard output. So all of them sign with the same kind of key, ECDSA over P-256.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    print!("{}{}", made.signing_key.serialize_pem(), made.cert.pem());
    Ok(())
}
