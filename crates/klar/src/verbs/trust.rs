//! `klar trust`: the local authority's certificate, where programs of this machine look for such.

use std::path::Path;
use std::process::Command;

use klar_run::report::Failure;

use crate::context::{Context, Trouble, wait};

/// Where Debian and its kin collect certificates of authorities.
const ANCHORS: &str = "/usr/local/share/ca-certificates";

/// `klar trust`.
pub fn trust(context: &Context, print: bool) -> Result<(), Trouble> {
    let certificate = wait(context.client().authority())??;
    if print {
        context.printer.data(certificate.trim_end());
        return Ok(());
    }
    if !Path::new(ANCHORS).is_dir() {
        let hint =
            "`klar trust --print > klar-ca.pem` gives the certificate, for the way this system does it";
        return Err(Failure::new(format!("there is no {ANCHORS} on this machine")).hint(hint).into());
    }
    let file = Path::new(ANCHORS).join("klar-local.crt");
    if !nix::unistd::geteuid().is_root() {
        let what = "only root may say what this machine trusts";
        let hint = format!(
            "run `sudo klar --state {} trust`,\nor `klar trust --print > klar-ca.pem` and import it in your browser",
            context.layout.root().display()
        );
        return Err(Failure::new(what).hint(hint).into());
    }
    std::fs::write(&file, certificate).map_err(Trouble::system(format!("writing {}", file.display())))?;
    let status = Command::new("update-ca-certificates").stdout(std::process::Stdio::null()).status();
    let status = status.map_err(Trouble::system("running update-ca-certificates"))?;
    if !status.success() {
        return Err(Failure::new(format!("update-ca-certificates ended with {status}")).into());
    }
    context.printer.data(format!("this machine now trusts klar's local authority ({})", file.display()));
    context.printer.story(
        "Firefox and Chromium keep lists of their own: import the same file under Settings, Certificates, Authorities.\n\
         The authority may sign for localhost and *.localhost only. To take it back: remove the file, run\n\
         update-ca-certificates --fresh.",
    );
    Ok(())
}
