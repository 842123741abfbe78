//! Clients that others have written, and a server of gRPC. Not run by themselves: they have to be installed.
//!
//! `cargo test -p klar-edge --test http2_clients -- --ignored`, with curl, nghttp2-client and, in the Python that
//! `KLAR_PYTHON` names (default `python3`), `grpcio`.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::common::{App, Edge, HOST, identity_pem, upstream};
use klar_base::upstreams::AppProtocol;

fn output(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

#[test]
#[ignore = "needs curl with HTTP/2"]
fn curl() {
    let app = App::named("app");
    let edge = Edge::with(&[&app], |_| {});
    let port = edge.https.port();
    for (flag, version) in [("--http2", "2"), ("--http1.1", "1.1")] {
        let said = output(
            Command::new("curl")
                .args(["-sk", flag, "-w", " %{http_version}", "-d", "hello"])
                .args(["--resolve", &format!("{HOST}:{port}:127.0.0.1")])
                .arg(format!("https://{HOST}:{port}/curl")),
        );
        assert_eq!(said, format!("app: POST /curl {version}"));
    }
    assert_eq!(app.got()[0].body, b"hello");
}

#[test]
#[ignore = "needs nghttp2-client"]
fn nghttp_and_h2load() {
    let app = App::named("app");
    let edge = Edge::with(&[&app], |_| {});
    let url = format!("https://127.0.0.1:{}/nghttp", edge.https.port());
    let host = format!(":authority: {HOST}");
    let said = output(Command::new("nghttp").args(["-n", "-v", "--no-verify-peer", "-H", &host, &url]));
    assert!(said.contains(":status: 200"), "{said}");
    let said = output(Command::new("h2load").args(["-n", "5000", "-c", "10", "-m", "50", "-H", &host, &url]));
    assert!(said.contains("5000 succeeded, 0 failed, 0 errored"), "{said}");
}

const SERVER: &str = r#"
import concurrent.futures, grpc
def each(request, context):
    context.set_trailing_metadata((("sum", str(len(request))),))
    return request.upper()
def stream(requests, context):
    for request in requests:
        yield request.upper()
def refuse(request, context):
    context.abort(grpc.StatusCode.NOT_FOUND, "nothing here")
handlers = grpc.method_handlers_generic_handler("shop.Shop", {
    "Each": grpc.unary_unary_rpc_method_handler(each),
    "Stream": grpc.stream_stream_rpc_method_handler(stream),
    "Refuse": grpc.unary_unary_rpc_method_handler(refuse),
})
server = grpc.server(concurrent.futures.ThreadPoolExecutor(8))
server.add_generic_rpc_handlers((handlers,))
print(server.add_insecure_port("127.0.0.1:0"), flush=True)
server.start()
server.wait_for_termination()
"#;

const CLIENT: &str = r#"
import grpc, queue, sys
trust = grpc.ssl_channel_credentials(open(sys.argv[2], "rb").read())
options = [("grpc.ssl_target_name_override", "shop.test"), ("grpc.default_authority", "shop.test")]
with grpc.secure_channel("127.0.0.1:" + sys.argv[1], trust, options) as channel:
    answer, call = channel.unary_unary("/shop.Shop/Each").with_call(b"hello", timeout=20)
    assert answer == b"HELLO", answer
    assert dict(call.trailing_metadata())["sum"] == "5", call.trailing_metadata()
    large = b"x" * 1_000_000
    assert channel.unary_unary("/shop.Shop/Each")(large, timeout=20) == large.upper()
    # Each answer is there before the next is asked for.
    asks = queue.Queue()
    answers = channel.stream_stream("/shop.Shop/Stream")(iter(asks.get, None), timeout=20)
    for word in (b"one", b"two", b"three"):
        asks.put(word)
        assert next(answers) == word.upper()
    asks.put(None)
    assert list(answers) == []
    try:
        channel.unary_unary("/shop.Shop/Refuse")(b"", timeout=20)
        raise AssertionError("a refused call has succeeded")
    except grpc.RpcError as error:
        assert (error.code(), error.details()) == (grpc.StatusCode.NOT_FOUND, "nothing here"), error
print("good")
"#;

#[test]
#[ignore = "needs grpcio for Python"]
fn grpc() {
    let python = std::env::var("KLAR_PYTHON").unwrap_or_else(|_| "python3".into());
    let mut server = Command::new(&python)
        .args(["-c", SERVER])
        .stdout(Stdio::piped())
        .spawn()
        .expect("Python is installed");
    let mut port = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut port).unwrap();
    let edge = Edge::with(&[], |edge| {
        let address = ([127, 0, 0, 1], port.trim().parse().unwrap()).into();
        edge.web().upstreams.push(upstream(1, address));
        edge.web().protocol = AppProtocol::H2c;
        edge.limits().body_bytes = 2 << 20;
    });
    let folder = crate::common::Folder::new();
    let trust = folder.path("trust.pem");
    std::fs::write(&trust, identity_pem()).unwrap();
    let mut client = Command::new(&python);
    let port = edge.https.port().to_string();
    let said = client.args(["-c", CLIENT, &port]).arg(&trust).output().unwrap();
    server.kill().unwrap();
    server.wait().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
}
