//! Sends samples by remote write 1.0 to whoever takes them, for `bench/see`.
//!
//! `push ADDRESS PATH SERIES SAMPLES END_S [AUTHORIZATION]`: so many series of seven labels (four fifths are whole counters,
//! one fifth noisy gauges) with so many samples each, 15 s apart, the last one at END_S; 1,000 samples a request, one
//! connection, one request after the other, as a Prometheus with one shard would.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Instant;

const BATCH: usize = 1_000;

fn varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn bytes(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    varint(out, field << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Their labels, sorted, as they go over the wire.
fn labels(number: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let metric = if number % 5 == 4 { "process_load" } else { "http_requests_total" };
    for (name, value) in [
        ("__name__", metric.to_owned()),
        ("instance", format!("10.0.{}.{}:9100", number / 250 % 250, number % 250)),
        ("job", format!("j{}", number / 1_000)),
        ("method", ["GET", "POST", "PUT", "DELETE"][number % 4].to_owned()),
        ("route", format!("/api/v1/resource{}", number % 200)),
        ("status", ["200", "404", "500"][number % 3].to_owned()),
        ("zone", format!("z{}", number % 3)),
    ] {
        let mut label = Vec::new();
        bytes(&mut label, 1, name.as_bytes());
        bytes(&mut label, 2, value.as_bytes());
        bytes(&mut out, 1, &label);
    }
    out
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [address, path, series, samples, end, rest @ ..] = args.as_slice() else {
        return Err("usage: push ADDRESS PATH SERIES SAMPLES END_S [AUTHORIZATION]".into());
    };
    let (series, samples, end): (usize, u64, u64) = (series.parse()?, samples.parse()?, end.parse()?);
    let known: Vec<Vec<u8>> = (0..series).map(labels).collect();
    let mut values: Vec<f64> = (0..series).map(|number| number as f64).collect();
    let mut random = fastrand::Rng::with_seed(7);
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let mut answers = BufReader::new(stream.try_clone()?);
    let authorization = rest.first().map(|said| format!("authorization: {said}\r\n")).unwrap_or_default();
    let (mut made, mut waited) = (0.0, 0.0);
    let mut packer = snap::raw::Encoder::new();
    for step in 0..samples {
        let time_ms = (end - (samples - 1 - step) * 15) * 1000;
        for from in (0..series).step_by(BATCH) {
            let begun = Instant::now();
            let mut body = Vec::with_capacity(BATCH * 200);
            for number in from..(from + BATCH).min(series) {
                let value = &mut values[number];
                *value = if number % 5 == 4 {
                    *value + random.f64() - 0.5
                } else {
                    value.floor() + random.u32(0..50) as f64
                };
                let mut sample = vec![0x09];
                sample.extend_from_slice(&value.to_le_bytes());
                sample.push(0x10);
                varint(&mut sample, time_ms);
                let mut one = known[number].clone();
                bytes(&mut one, 2, &sample);
                bytes(&mut body, 1, &one);
            }
            let packed = packer.compress_vec(&body)?;
            made += begun.elapsed().as_secs_f64();
            let begun = Instant::now();
            write!(
                stream,
                "POST {path} HTTP/1.1\r\nhost: {address}\r\ncontent-encoding: snappy\r\ncontent-type: \
                 application/x-protobuf\r\nx-prometheus-remote-write-version: 0.1.0\r\n{authorization}content-length: {}\r\n\r\n",
                packed.len()
            )?;
            stream.write_all(&packed)?;
            let mut line = String::new();
            answers.read_line(&mut line)?;
            let status = line.split(' ').nth(1).unwrap_or_default().to_owned();
            let mut length = 0;
            loop {
                let mut header = String::new();
                answers.read_line(&mut header)?;
                if header.trim().is_empty() {
                    break;
                }
                if let Some((name, value)) = header.split_once(':')
                    && name.eq_ignore_ascii_case("content-length")
                {
                    length = value.trim().parse()?;
                }
            }
            let mut rest = vec![0; length];
            answers.read_exact(&mut rest)?;
            if !status.starts_with('2') {
                return Err(format!("{}{}", line, String::from_utf8_lossy(&rest)).into());
            }
            waited += begun.elapsed().as_secs_f64();
        }
    }
    println!("{{\"samples\":{},\"made_s\":{made:.3},\"waited_s\":{waited:.3}}}", series as u64 * samples);
    Ok(())
}
