//! Telemetry without a core, for `bench/see`: `alone FOLDER PORT`, with the key `bench`.

use std::net::TcpListener;
use std::os::unix::net::UnixStream;

use klar_base::see::{ToSee, World};
use klar_base::{Secret, wire};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let folder = args.next().ok_or("usage: alone FOLDER PORT")?;
    let port: u16 = args.next().ok_or("usage: alone FOLDER PORT")?.parse()?;
    std::fs::create_dir_all(&folder)?;
    let (here, there) = UnixStream::pair()?;
    wire::send(
        &here,
        &ToSee::World(World { apps: Vec::new(), key: Some(Secret::new("bench".into())) }),
        &[],
    )?;
    let options = klar_see::Options {
        apps: format!("{folder}/apps").into(),
        folder: folder.into(),
        allowed: Vec::new(),
        sandbox: true,
    };
    klar_see::run(there, None, vec![TcpListener::bind(("127.0.0.1", port))?], options)?;
    drop(here);
    Ok(())
}
