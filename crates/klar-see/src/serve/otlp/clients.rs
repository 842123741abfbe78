//! OpenTelemetry's own SDK, as its documentation says to use it, with both of its exporters.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::tests::{Folder, KEY, Running, TOKEN};

/// After <https://opentelemetry.io/docs/languages/python/exporters/> and `/instrumentation/`: it is configured by the
/// variables that klar gives to instances, and by nothing else.
const SCRIPT: &str = r#"
import logging, sys
from opentelemetry import trace, metrics
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
if sys.argv[1] == "grpc":
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
else:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter

traces = TracerProvider()
traces.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(traces)
logs = LoggerProvider()
logs.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter()))
logger = logging.getLogger("shop.cart")
logger.addHandler(LoggingHandler(level=logging.NOTSET, logger_provider=logs))
logger.setLevel(logging.INFO)
view = View(instrument_name="spread", aggregation=ExponentialBucketHistogramAggregation())
meters = MeterProvider(metric_readers=[PeriodicExportingMetricReader(OTLPMetricExporter())], views=[view])
metrics.set_meter_provider(meters)

tracer = trace.get_tracer("my.tracer.name")
meter = metrics.get_meter("my.meter.name")
carrier = {"traceparent": "00-" + sys.argv[2] + "-00f067aa0ba902b7-01"}
context = TraceContextTextMapPropagator().extract(carrier)
with tracer.start_as_current_span("GET /orders/{id}", context=context, kind=SpanKind.SERVER) as request:
    request.set_attribute("http.route", "/orders/{id}")
    logger.warning("an order of %s", "ada", extra={"order": 7})
    with tracer.start_as_current_span("SELECT orders", kind=SpanKind.CLIENT) as query:
        query.set_attribute("db.system.name", "postgresql")
        query.set_attribute("db.query.text", "SELECT * FROM orders WHERE id = $1")
        try:
            raise ValueError("no such order")
        except ValueError as error:
            query.record_exception(error)
            query.set_status(Status(StatusCode.ERROR, str(error)))
work = meter.create_counter("work.counter", unit="1", description="Counts the amount of work done")
work.add(2, {"work.type": "fast"})
work.add(3, {"work.type": "fast"})
meter.create_up_down_counter("open.carts", unit="{cart}").add(-1)
meter.create_histogram("http.server.request.duration", unit="s").record(0.25, {"http.route": "/"})
meter.create_histogram("spread", unit="ms").record(3.0)
meter.create_observable_gauge("queue.depth", callbacks=[lambda options: [metrics.Observation(4, {"queue": "mail"})]])
for provider in (traces, logs, meters):
    assert provider.force_flush(), provider
    provider.shutdown()
print("done")
"#;

fn count(see: &Running, query: &str) -> String {
    let found = see.get(&format!("/api/v1/query?query={query}"));
    let found = found["result"].as_array().unwrap();
    found.iter().map(|one| one["value"][1].as_str().unwrap()).collect::<Vec<_>>().join(",")
}

/// A Python that has the SDK and both exporters: `cargo xtask test` installs one.
fn python() -> Option<String> {
    let python = std::env::var("KLAR_READERS_PYTHON").unwrap_or_else(|_| "python3".into());
    let has_all = Command::new(&python)
        .args(["-c", "import opentelemetry.sdk, opentelemetry.exporter.otlp.proto.http, opentelemetry.exporter.otlp.proto.grpc"])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    has_all.then_some(python)
}

#[test]
fn python_sends_over_http_and_grpc() {
    let Some(python) = python() else {
        println!("skipped: no Python with OpenTelemetry's SDK; name one in KLAR_READERS_PYTHON");
        return;
    };
    for (how, protocol, compression) in [
        ("http", "http/protobuf", None),
        ("http", "http/protobuf", Some("gzip")),
        ("grpc", "grpc", None),
        ("grpc", "grpc", Some("gzip")),
    ] {
        let folder = Folder::new(&format!("otlp-python-{how}-{}", compression.unwrap_or("plain")));
        let see = Running::start(&folder);
        see.until("the key is known", |see| {
            (see.ask(Some(KEY), "GET", "/metrics", b"").0 == 200).then_some(())
        });
        let id = format!("{:012x}{:020x}", crate::now_ms(), 7);
        let output = Command::new(&python)
            .args(["-c", SCRIPT, how, &id])
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{}", see.address))
            .env("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
            .env("OTEL_EXPORTER_OTLP_HEADERS", format!("authorization=Bearer%20{TOKEN}"))
            .envs(compression.map(|name| ("OTEL_EXPORTER_OTLP_COMPRESSION", name)))
            .env("OTEL_SERVICE_NAME", "api")
            .env("OTEL_RESOURCE_ATTRIBUTES", "service.version=8e359c5cd8f2,service.instance.id=api.7")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(String::from_utf8_lossy(&output.stdout), "done\n", "{how} {compression:?}: {said}");
        let (_, trace) = see.ask(Some(KEY), "GET", &format!("/klar/v1/trace?id={id}"), b"");
        let trace: Value = serde_json::from_str(&trace).unwrap();
        let spans = trace["spans"].as_array().unwrap();
        assert_eq!(spans.len(), 2, "{how} {compression:?}: {trace:#} {said}");
        let (request, query) = (&spans[0], &spans[1]);
        assert_eq!(
            (&request["name"], &request["route"], &request["kind"]),
            (&"GET /orders/{id}".into(), &"/orders/{id}".into(), &"server".into())
        );
        assert_eq!(request["parent_span_id"], "00f067aa0ba902b7");
        assert_eq!((&query["parent_span_id"], &query["status"]), (&request["span_id"], &"error".into()));
        assert_eq!(query["statement"], "SELECT * FROM orders WHERE id = $1");
        assert_eq!(query["release"], "8e359c5cd8f2");
        assert!(query["events"].as_str().unwrap().contains("no such order"), "{query}");
        let line = &trace["lines"][0];
        for (name, value) in
            [("body", "an order of ada"), ("level", "warn"), ("instance", "api.7"), ("app", "shop")]
        {
            assert_eq!(line[name], value, "{name} of {line}");
        }
        assert_eq!((&line["span_id"], &line["attrs"]["order"]), (&request["span_id"], &"7".into()));
        for (query, expected) in [
            ("work_counter_total%7Bwork_type=%22fast%22,job=%22api%22,app=%22shop%22%7D", "5"),
            ("open_carts", "-1"),
            ("queue_depth%7Bqueue=%22mail%22%7D", "4"),
            ("http_server_request_duration_seconds_sum%7Bhttp_route=%22/%22%7D", "0.25"),
            ("http_server_request_duration_seconds_bucket%7Ble=%225%22%7D", "1"),
            ("spread_milliseconds_count", "1"),
            ("spread_milliseconds_bucket%7Ble=%22%2BInf%22%7D", "1"),
            ("histogram_quantile(1,spread_milliseconds_bucket)%20%3E=%203", "4"),
            ("count(target_info)", "1"),
        ] {
            assert_eq!(count(&see, query), expected, "{how} {compression:?}: {query}: {said}");
        }
        see.end();
    }
}
