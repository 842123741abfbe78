//! What a request costs the codec, and what it costs hyper behind the guard: the same requests, the same answers, no
//! network and no TLS. To be run under something that counts instructions:
//!
//! `perf stat -e instructions:u TEST-PROGRAM http1::cost::codec --ignored`, and the same with `hyper` for `codec`.

use std::future::ready;

use http_body_util::BodyExt;
use http_body_util::Full;
use http_body_util::combinators::MapErr;
use tokio::io::{AsyncReadExt, duplex};
use tokio::task::{LocalSet, spawn_local};

use super::*;

const REQUESTS: usize = 100_000;
const LONG: Duration = Duration::from_secs(600);
const CLOCKS: Clocks = Clocks { head_bytes: 16 << 10, head: LONG, stall: LONG, idle: LONG };
/// As a browser asks.
const ASK: &[u8] = b"GET /assets/app.js?v=12 HTTP/1.1\r\nHost: shop.test\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; \
    rv:140.0) Gecko/20100101 Firefox/140.0\r\nAccept: */*\r\nAccept-Language: nb,en;q=0.7\r\nAccept-Encoding: gzip, br, \
    zstd\r\nCookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\nSec-Fetch-Site: same-origin\r\n\r\n";

type Whole = MapErr<Full<Bytes>, fn(std::convert::Infallible) -> io::Error>;

/// Always says the same.
struct Parrot;

impl Service for Parrot {
    type Body = Whole;
    type Waiting = std::convert::Infallible;

    fn answer(&self, _: HeadNote, _: Request<VisitorBody>) -> impl Future<Output = Response<Whole>> {
        static BODY: [u8; 1024] = [b'x'; 1024];
        let body = Full::new(Bytes::from_static(&BODY));
        let mut response = Response::new(body.map_err((|never| match never {}) as fn(_) -> _));
        for (name, value) in
            [("content-type", "text/plain"), ("etag", "\"1\""), ("cache-control", "no-cache")]
        {
            response.headers_mut().insert(name, http::HeaderValue::from_static(value));
        }
        ready(response)
    }
}

fn measure(is_codec: bool) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let (mut visitor, edge) = duplex(64 * 1024);
        let (_stop, mut stopped) = watch::channel(false);
        spawn_local(async move {
            if is_codec {
                serve(edge, CLOCKS, &Parrot, &mut stopped).await;
            } else {
                fallback::serve(edge, BytesMut::new(), CLOCKS, |_| Parrot, &mut stopped).await;
            }
        });
        let mut answer = vec![0; 4096];
        for _ in 0..REQUESTS {
            visitor.write_all(ASK).await.unwrap();
            let mut read = 0;
            while !answer[..read].ends_with(&[b'x'; 1024]) {
                read += visitor.read(&mut answer[read..]).await.unwrap();
            }
        }
    });
}

#[test]
#[ignore = "only of use where instructions are counted"]
fn codec() {
    measure(true);
}

#[test]
#[ignore = "only of use where instructions are counted"]
fn hyper() {
    measure(false);
}
