"""The inputs of the benchmark `hostile`: one line of its table each."""

from __future__ import annotations

from benchmarks.hostile_calls import (
    Input,
    download,
    drip,
    fetch,
    fetch_and_save,
    slow_names,
    status,
    submit,
    waiting,
)
from modelmax_async import PollPolicy, ResourceLimits

_SOON = {"timeout": 1.0}

INPUTS: dict[str, Input] = {
    "honest": Input("none: an honest job, for comparison", fetch_and_save("honest")),
    "waiting_gzip": Input(
        "12 waiting jobs: 8 KB of gzip, 8 MiB of lists",
        waiting("waiting_gzip", 12, 3.0),
        45.0,
        options={"poll": PollPolicy(initial=3.0, maximum=3.0)},
    ),
    "waiting_60k": Input(
        "1,500 waiting jobs: statuses of 60 KB",
        waiting("waiting_60k", 1500, 8.0),
        20.0,
        options={"poll": PollPolicy(initial=4.0, maximum=4.0)},
    ),
    "submit_gzip": Input("submit: 8 KB of gzip, 8 MiB of lists", submit("submit_gzip")),
    "submit_error": Input("submit: 400 with 8 MiB of lists", submit("submit_error")),
    "submit_path": Input("submit: a status_url of 58,000 characters", submit("submit_path")),
    "status_lists": Input("status: 8 MiB of lists", status("status_lists")),
    "status_failed": Input("status: an error text of 8 MiB", status("status_failed")),
    "status_chunks": Input(
        "status: 1 MiB in chunks of one byte", status("status_chunks"), 30.0
    ),
    "status_continue": Input(
        "status: endless 100 Continue", status("status_continue"), options=_SOON
    ),
    "status_headers": Input("status: 24,000 headers", status("status_headers")),
    "result_lists": Input("paid: 8 MiB of lists", fetch("result_lists")),
    "result_gzip": Input("paid: 8 KB of gzip, 8 MiB of lists", fetch("result_gzip")),
    "result_blanks": Input("paid: gzip of 64 MiB of blanks", fetch("result_blanks")),
    "result_keys": Input("paid: 740,000 keys", fetch("result_keys")),
    "result_digits": Input("paid: integers of 4,290 digits", fetch("result_digits")),
    "result_entries": Input("paid: 700,000 videos", fetch("result_entries")),
    "result_nested": Input("paid: lists 4,000,000 deep", fetch("result_nested")),
    "result_escapes": Input("paid: 1,400,000 escapes", fetch("result_escapes")),
    "result_id": Input("paid: a request_id of 8 MiB", fetch("result_id")),
    "result_percent": Input("paid: 125 strings of 65,000 % each", fetch("result_percent")),
    "result_data": Input("paid: a data: video of 8 MiB", fetch_and_save("result_data")),
    "result_many": Input("paid: 1,000 data: videos", fetch_and_save("result_many"), 30.0),
    "result_url": Input("paid: a URL of 8 MB", fetch_and_save("result_url")),
    "result_chunks": Input("paid: 64 KiB in chunks of one byte", fetch("result_chunks"), 20.0),
    "result_continue": Input(
        "paid: endless 100 Continue", fetch("result_continue"), 16.0, options=_SOON
    ),
    "result_headers": Input("paid: 24,000 headers", fetch("result_headers")),
    "result_breaks": Input("paid: breaks off after 10 of 12 MiB", fetch("result_breaks")),
    "content_endless": Input("video: no length, no end", download("content_endless")),
    "content_huge": Input("video: a length of 10^19", download("content_huge")),
    "content_drip": Input(
        "video: drips in all slots",
        drip,
        10.0,
        options={"max_in_flight": 4, "limits": ResourceLimits(least_rate_seconds=1.0)},
    ),
    "content_chunks": Input(
        "video: 64 KiB in chunks of one byte", download("content_chunks"), 40.0
    ),
    "content_boxes": Input("video: 4,000,000 boxes", download("content_boxes")),
    "content_headers": Input("video: 24,000 headers", download("content_headers")),
    "content_continue": Input(
        "video: endless 100 Continue", download("content_continue"), options=_SOON
    ),
    "slow_names": Input("video: 200 slow host names", slow_names),
}
