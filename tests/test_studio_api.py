"""The endpoints, through a real client against the served page."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from conftest import PATIENT, ROOT, Served, serve
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from my3dgen.studio.gate import MOST_BYTES

RED, BLUE = (200, 60, 60), (60, 60, 200)
ENDPOINTS = {
    "/prepare",
    "/load_example",
    "/personalize",
    "/load_adapter",
    "/render",
    "/invert",
    "/inpaint",
    "/upscale",
    "/interpolate",
    "/synthesize",
    "/edit",
    "/export",
    "/delete_my_data",
}


@pytest.fixture
def client(app: Served):
    yield from _client(app)


@pytest.fixture
def other(app: Served):
    yield from _client(app)


def _client(app: Served):
    client = Client(app.url, verbose=False, httpx_kwargs=PATIENT)
    yield client
    client.predict(api_name="/delete_my_data")
    client.close()


def prepare(client: Client, paths: list[str], consent: bool = True) -> dict:
    _, report = client.predict([handle_file(path) for path in paths], consent, api_name="/prepare")
    return report


def colour_of(path: str) -> np.ndarray:
    """The head's colour in a render of the stand-in models."""
    return np.asarray(Image.open(path).convert("RGB")).astype(int)[30, 60]


def test_the_public_endpoints_are_named_typed_and_described(client: Client):
    api = client.view_api(return_format="dict", print_info=False)
    assert set(api["named_endpoints"]) == ENDPOINTS
    assert not api["unnamed_endpoints"]
    needed = {
        name: {p["parameter_name"] for p in endpoint["parameters"] if not p["parameter_has_default"]}
        for name, endpoint in api["named_endpoints"].items()
    }
    photo = dict.fromkeys(("/invert", "/inpaint", "/upscale", "/edit"), {"photo"})
    others = {"/prepare": {"photos"}, "/load_example": {"name"}, "/load_adapter": {"file"}}
    assert {name: names for name, names in needed.items() if names} == photo | others  # as the README says
    for endpoint in api["named_endpoints"].values():
        assert endpoint["description"]
        assert all(value["label"] and value["python_type"]["type"] for value in endpoint["parameters"])


def test_photos_to_results(client: Client, photos):
    paths = photos(RED, 5)
    gallery, report = client.predict([handle_file(path) for path in paths], True, api_name="/prepare")
    assert [item["caption"] for item in gallery] == [Path(path).name for path in paths]
    assert Image.open(gallery[0]["image"]).size == (512, 512)
    assert [len(photo["camera"]) for photo in report["accepted"]] == [25] * 5
    assert report["refused"] == []

    job = client.submit("heads", 1, 8, 0, False, api_name="/personalize")
    adapter, report = job.result(60)
    stages = [reported["stage"] for _, reported in job.outputs() if "stage" in reported]
    assert {"project", "personalize"} <= set(stages)
    assert Path(adapter).name == "me.safetensors"
    assert Path(adapter).stat().st_size == report["bytes"]
    assert set(report["id_sim"]) == {"pretrained", "personalized", "photos"}

    before, after, report = client.predict(0, 0.4, 0.0, api_name="/render")
    assert report["extrapolation"] is True
    assert Image.open(after).format == "PNG"
    assert colour_of(before).std() < 3, "the pretrained stand-in is grey"
    assert colour_of(after)[0] > colour_of(after)[2] + 20, "the personalized one has the person's colour"

    before, after, report = client.predict(handle_file(paths[0]), 0, 0, api_name="/invert")
    assert report["personalized"]["id_sim"] > report["pretrained"]["id_sim"]
    assert report["networks"]


def test_the_same_question_is_answered_at_once_and_another_makes_a_second_model(client: Client, photos):
    prepare(client, photos(RED, 3))
    first, report = client.predict("heads", 1, 150, 0, False, api_name="/personalize")
    job = client.submit("heads", 1, 150, 0, False, api_name="/personalize")
    assert job.result(60)[1] == report
    assert not [step for _, step in job.outputs() if "stage" in step], "nothing is fitted again"
    _, other = client.predict("heads", 2, 5, 0, False, api_name="/personalize")
    assert other["rank"] == 2
    assert other["seconds"]["project"] == 0.0, "the photos were projected already"


def test_without_consent_nothing_is_read(client: Client, photos):
    with pytest.raises(AppError, match="Tick the consent box"):
        prepare(client, photos(RED, 1), consent=False)


def test_photos_are_read_as_the_named_prior_needs_them(client: Client, photos, tmp_path: Path):
    dark = str(tmp_path / "dark.png")
    Image.new("RGB", (300, 300)).save(dark)
    with pytest.raises(AppError, match="too dark to see a face"):
        prepare(client, [dark])
    sent = [handle_file(path) for path in (dark, *photos(RED, 1))]
    _, report = client.predict(sent, True, "cats", api_name="/prepare")
    assert len(report["accepted"]) == 2, "nobody looks for a face of a cat"
    assert "Cats: no face is looked for" in report["notes"][0]
    assert client.predict("heads", 1, 5, 0, False, api_name="/personalize")[1]["anchors"] == 1
    job = client.submit("cats", 1, 5, 0, False, api_name="/personalize")
    report = job.result(60)[1]
    assert (report["prior"], report["anchors"]) == ("cats", 2)
    assert "prepare" in {step.get("stage") for _, step in job.outputs()}


def test_an_example_person_needs_no_consent(client: Client):
    gallery, report = client.predict("anna", api_name="/load_example")
    assert len(gallery) == len(report["accepted"]) == 10
    assert report["example"] == "anna"


def test_two_callers_at_once_get_only_their_own(client: Client, other: Client, photos):
    colours = {client: RED, other: BLUE}
    made = {caller: photos(colour, 4) for caller, colour in colours.items()}

    def run(caller: Client) -> np.ndarray:
        prepare(caller, made[caller])
        caller.predict("heads", 1, 10, 0, False, api_name="/personalize")
        return colour_of(caller.predict(0, 0.0, 0.0, api_name="/render")[1])

    with ThreadPoolExecutor(2) as pool:
        red, blue = pool.map(run, colours)
    assert red[0] > red[2] + 20
    assert blue[2] > blue[0] + 20


def test_an_adapter_file_works_in_a_session_of_its_own(client: Client, other: Client, photos):
    prepare(client, photos(RED, 2))
    adapter, report = client.predict("heads", 1, 5, 0, False, api_name="/personalize")
    with pytest.raises(AppError, match="no personalized model yet"):
        other.predict(0, 0.0, 0.0, api_name="/render")
    _, after, _ = other.predict(1, 0.0, 0.0, handle_file(adapter), api_name="/render")
    assert colour_of(after)[0] > colour_of(after)[2] + 20
    loaded = other.predict(handle_file(adapter), api_name="/load_adapter")
    assert (loaded["prior"], loaded["anchors"]) == (report["prior"], report["anchors"])
    assert other.predict(0, 0.0, 0.0, api_name="/render")[1]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (("../../etc/passwd", 1, 0, 0, False, "/personalize"), "There is no prior called"),
        (("heads", 99, 0, 0, False, "/personalize"), "rank is 99"),
        (("heads", 1, -5, 0, False, "/personalize"), "steps is -5"),
        ((7, 0.0, 0.0, "/render"), "anchor is 7"),
        ((0, 9.0, 0.0, "/render"), "yaw is 9"),
        (("../ben", "/load_example"), "There is no example person"),
    ],
)
def test_wrong_values_get_one_sentence_and_lose_nothing(client: Client, photos, call, says):
    prepare(client, photos(RED, 2))
    client.predict("heads", 1, 5, 0, False, api_name="/personalize")
    *values, name = call
    with pytest.raises(AppError, match=says):
        client.predict(*values, api_name=name)
    assert client.predict(0, 0.0, 0.0, api_name="/render")[2]["anchor"] == 0


def test_bad_files_get_one_sentence_and_lose_nothing(client: Client, photos, bad_photo: str):
    good = photos(RED, 2)
    report = prepare(client, [*good, bad_photo])
    assert [refused["source"] for refused in report["refused"]] == ["notes.jpg"]
    with pytest.raises(AppError, match="not a picture") as error:
        prepare(client, [bad_photo])
    assert "/" not in str(error.value), "no path of the server is shown"
    client.predict("heads", 1, 5, 0, False, api_name="/personalize")
    with pytest.raises(AppError, match="not a picture"):
        client.predict(handle_file(bad_photo), 0, 0, api_name="/invert")
    with pytest.raises(AppError, match="not an adapter"):
        client.predict(handle_file(bad_photo), api_name="/load_adapter")
    assert client.predict(0, 0.0, 0.0, api_name="/render")


def test_no_path_is_taken_from_a_client(app: Served):
    secret = app.folder.parent / "server.log"
    for path in (str(secret), "/etc/passwd", str(app.folder)):
        status, answer = _call(app, "load_adapter", [{"path": path, "meta": {"_type": "gradio.FileData"}}])
        assert status == "error", answer
        assert "Running on" not in answer
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(f"{app.url}/gradio_api/file={secret}")


def _call(app: Served, name: str, data: list) -> tuple[str, str]:
    """A call over plain HTTP, without a session: ("complete" or "error", data)."""
    body = json.dumps({"data": data}).encode()
    request = urllib.request.Request(
        f"{app.url}/gradio_api/call/{name}", body, {"Content-Type": "application/json"}
    )
    event = json.load(urllib.request.urlopen(request, timeout=60))["event_id"]
    address = f"{app.url}/gradio_api/call/{name}/{event}"
    answer = urllib.request.urlopen(address, timeout=60).read().decode()
    last = answer.strip().split("\n\n")[-1]
    return last.split("\n")[0].removeprefix("event: "), last.split("data: ", 1)[1]


def test_no_address_is_fetched_for_a_client_and_no_page_is_saved(app: Served):
    elsewhere = "https://example.com/me.safetensors"
    status, answer = _call(app, "load_adapter", [{"path": elsewhere, "meta": {"_type": "gradio.FileData"}}])
    assert status == "error"
    assert "EXTERNAL" not in app.log.read_text()
    fetched = {"path": elsewhere, "meta": {"_type": "gradio.FileData"}}
    status, answer = _call(
        app, "render", [fetched, 0, 0, None]
    )  # to any component, not only to those for files
    assert status == "error" and "fetches nothing" in answer
    closed = (
        *(f"file={elsewhere}", f"file=/{elsewhere}", f"file/{elsewhere}", "deep_link?session_hash=abc"),
        *("process_recording", "component_server", "custom_component/x/server/t/f"),
    )
    for path in closed:
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"{app.url}/gradio_api/{path}")


def test_no_copy_of_a_face_is_kept_on_its_way(app: Served):
    _, answer = _call(app, "load_example", ["anna"])
    path = json.loads(answer)[0][0]["image"]["path"]
    with urllib.request.urlopen(f"{app.url}/gradio_api/file={path}", timeout=60) as response:
        assert response.headers["cache-control"] == "no-store" and response.read(4)


@pytest.mark.parametrize("chunked", [False, True])
def test_a_request_larger_than_any_of_the_page_is_refused(app: Served, chunked: bool):
    body = b'{"data": ["' + b"x" * MOST_BYTES + b'"]}'
    with pytest.raises((urllib.error.HTTPError, OSError)) as caught:
        urllib.request.urlopen(
            urllib.request.Request(
                f"{app.url}/gradio_api/call/load_example",
                iter([body]) if chunked else body,
                {"Content-Type": "application/json"},
            ),
            timeout=60,
        )
    # it may be refused while it is being sent
    assert not isinstance(caught.value, urllib.error.HTTPError) or caught.value.code in (400, 413)
    assert _call(app, "load_example", ["anna"])[0] == "complete"


def test_a_file_that_went_with_its_session_is_asked_for_again(app: Served):
    """Its name is in no log, nor what else a client puts there."""
    before = len(app.log.read_text())
    gone = {"path": f"{app.folder}-before/berta.jpg\nERROR forged", "meta": {"_type": "gradio.FileData"}}
    status, answer = _call(app, "invert", [gone, 0, 0, None])
    assert status == "error" and "choose it again" in answer
    said = app.log.read_text()[before:]
    assert "berta" not in said and "forged" not in said and "Traceback" not in said


def test_what_is_no_file_gets_a_sentence_and_stays_out_of_the_log(app: Served, client: Client):
    before = len(app.log.read_text())
    for values, name in (
        ([["/home/x/anna.jpg"], True], "prepare"),
        (["/home/x/anna.jpg", 0, 0], "invert"),
    ):
        status, answer = _call(app, name, [*values, *[None] * (3 if name == "invert" else 1)][:4])
        assert status == "error" and "handle_file" in answer, answer
    for rank, words in (("abc", "rank is abc; it must be a number"), (2.5, "must be a whole number")):
        with pytest.raises(AppError, match=words):
            client.predict("heads", rank, 5, 0, False, api_name="/personalize")
    said = app.log.read_text()[before:]
    assert "anna" not in said and "Traceback" not in said


def test_nothing_passes_by_the_queue(app: Served):
    body = json.dumps({"data": ["ben"]}).encode()
    request = urllib.request.Request(
        f"{app.url}/gradio_api/run/load_example", body, {"Content-Type": "application/json"}
    )
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(request)


def test_no_file_is_no_adapter(client: Client):
    with pytest.raises(AppError, match="No adapter file was sent"):
        client.predict(None, api_name="/load_adapter")


def test_a_call_without_a_session_shares_nothing(app: Served):
    assert _call(app, "load_example", ["ben"])[0] == "complete"
    assert _call(app, "personalize", ["heads", 1, 5, 0, False])[0] == "error"


def test_delete_my_data_removes_every_file(app: Served, client: Client, photos):
    start = app.files()
    prepare(client, photos((33, 99, 33), 2))
    client.predict("heads", 1, 5, 0, False, api_name="/personalize")
    client.predict(0, 0.0, 0.0, api_name="/render")
    made = app.files() - start
    assert {path.suffix for path in made} == {".jpg", ".png", ".safetensors"}
    assert not any(client.session_hash in str(path) for path in made)
    assert client.predict(api_name="/delete_my_data") == {"deleted": True}
    assert not made & app.files()
    with pytest.raises(AppError, match="no usable photos"):
        client.predict("heads", 1, 5, 0, False, api_name="/personalize")


def test_what_was_sent_twice_or_with_a_refused_call_is_deleted_too(
    app: Served, client: Client, other: Client, photos
):
    paths = photos((99, 33, 99), 2)
    prepare(client, paths)
    adapter = client.predict("heads", 1, 5, 0, False, api_name="/personalize")[0]
    kept, alone = Path(adapter).read_bytes(), Path(paths[0]).with_name("nobody.png")
    alone.write_bytes(Path(paths[0]).read_bytes() + b"another file")
    client.predict(api_name="/delete_my_data")
    mine = alone.with_name("mine.safetensors")
    mine.write_bytes(kept)
    start = app.files()
    with pytest.raises(AppError, match="no personalized model"):
        other.predict(handle_file(str(alone)), 0, 0, api_name="/invert")
    for _ in range(2):
        other.predict(0, 0.0, 0.0, handle_file(str(mine)), api_name="/render")
    assert {path.name for path in app.files() - start} >= {"nobody.png", "mine.safetensors"}
    assert other.predict(api_name="/delete_my_data") == {"deleted": True}
    assert not app.files() - start


def begun(fit) -> None:
    """Wait until a fit reports."""
    end = time.monotonic() + 60
    while not fit.outputs() and not fit.done():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_deleting_ends_a_fit_that_runs(client: Client, photos):
    prepare(client, photos(RED, 2))
    fit = client.submit("heads", 1, 3000, 0, False, api_name="/personalize")
    begun(fit)
    assert client.predict(api_name="/delete_my_data") == {"deleted": True}
    with pytest.raises(AppError, match="deleted while this was running"):
        fit.result(60)


def test_light_work_is_not_stuck_behind_a_fit(client: Client, other: Client, photos):
    prepare(client, photos(RED, 2))
    prepare(other, photos(BLUE, 2))
    other.predict("heads", 1, 5, 0, False, api_name="/personalize")
    fit = client.submit("heads", 1, 5000, 0, False, api_name="/personalize")
    begun(fit)
    other.predict(0, 0.1, 0.0, api_name="/render")
    assert not fit.done()
    fit.cancel()


def test_nothing_leaves_the_server_and_mcp_stays_off(app: Served):
    log = app.log.read_text()
    assert "EXTERNAL" not in log
    assert ".jpg" not in log, "no file name of a visitor's is logged"
    assert "my3dgen/studio" not in log, "no handler of ours raised anything unexpected"
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"{app.url}/gradio_api/mcp/schema")
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(f"{app.url}/monitoring")


def test_the_real_app_answers_soon(tmp_path: Path):
    """In processor time beside what Gradio alone takes, so that a slow or busy machine may be slow."""

    def gradio() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", "import gradio"], check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    sooner = gradio()
    server = serve([str(ROOT / "app.py")], tmp_path)
    taken = next(server).cpu_seconds
    server.close()
    assert taken < 3 * max(sooner, gradio()), "heavy things are imported when they are needed"
