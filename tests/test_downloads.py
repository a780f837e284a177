"""Downloads against a server on loopback: whole or not at all, resumed at any byte, one sentence for every failure."""

import dataclasses
import errno
import hashlib
import shutil
from concurrent.futures import ThreadPoolExecutor

import official_snapshot
import pytest
from file_server import serving
from test_official_pickle import CONFIG, assert_same_weights, random_generator

import my3dgen
from my3dgen.cli import main
from my3dgen.errors import My3DGenError
from my3dgen.priors import catalogue, download, load_prior, releases
from my3dgen.priors.download import Expected

DATA = bytes(range(256)) * 40  # 10,240 bytes
EXPECTED = Expected(len(DATA), hashlib.sha256(DATA).hexdigest())
FILE = "weights.bin"


@pytest.fixture
def server():
    with serving({FILE: DATA}) as running:
        yield running


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(download, "PAUSE", 0.0)
    monkeypatch.setattr(download, "TIMEOUT", 5.0)
    for name in ("MY3DGEN_OFFLINE", "HF_HUB_OFFLINE", "MY3DGEN_WEIGHTS", "MY3DGEN_PRIOR"):
        monkeypatch.delenv(name, raising=False)


def get(server, folder, expected=EXPECTED, **more):
    return download.download(f"{server.url}/{FILE}", folder / FILE, expected, **more)


def refused(server, folder, words: str, expected=EXPECTED, **more) -> str:
    with pytest.raises(My3DGenError, match=words) as error:
        get(server, folder, expected, **more)
    assert "\n" not in str(error.value)
    return str(error.value)


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_whole_file(server, tmp_path):
    folder = tmp_path / "new" / "cache"
    assert get(server, folder).read_bytes() == DATA
    assert names(folder) == [FILE]
    get(server, folder)
    assert len(server.requests) == 1  # what is there is not fetched again


@pytest.mark.parametrize("stop", [0, 1, 5_000, len(DATA) - 1])
def test_a_broken_connection_is_gone_on_with(server, tmp_path, stop):
    server.breaks = [stop]
    if stop == 0:  # nothing came: that is no network, and no reason to hammer the server
        refused(server, tmp_path, "broke off after 0 of 10240 bytes")
    assert get(server, tmp_path).read_bytes() == DATA
    assert server.requests[-1][1:] == ((f"bytes={stop}-", 206) if stop else (None, 200))
    assert names(tmp_path) == [FILE]


@pytest.mark.parametrize("stop", [1, 777, len(DATA) - 1, len(DATA)])
def test_a_killed_process_is_gone_on_with(server, tmp_path, stop):
    (tmp_path / f"{FILE}.part").write_bytes(DATA[:stop])
    assert get(server, tmp_path).read_bytes() == DATA
    assert names(tmp_path) == [FILE]
    assert len(server.requests) == 1


@pytest.mark.parametrize("lengths", [True, False])
def test_a_server_without_ranges_starts_over(server, tmp_path, lengths):
    server.ranges, server.lengths = False, lengths
    (tmp_path / f"{FILE}.part").write_bytes(b"x" * 777)
    assert get(server, tmp_path).read_bytes() == DATA
    assert names(tmp_path) == [FILE]


def test_another_version_of_the_file_starts_over(server, tmp_path):
    server.breaks = [4_000, 0]
    refused(server, tmp_path, r"broke off.*next call goes on")
    server.files[FILE], server.etag = DATA[::-1], '"2"'
    assert get(server, tmp_path, Expected()).read_bytes() == DATA[::-1]
    (tmp_path / FILE).unlink()
    (tmp_path / f"{FILE}.part").write_bytes(DATA + DATA)  # longer than what is there now
    assert get(server, tmp_path, Expected()).read_bytes() == DATA[::-1]


def test_a_connection_that_breaks_again_and_again(server, tmp_path):
    server.breaks = [100] * 1000
    assert "goes on" in refused(server, tmp_path, "broke off after")
    assert len(server.requests) == download.BREAKS + 1
    server.breaks = []
    assert get(server, tmp_path).read_bytes() == DATA


def test_a_wrong_hash(server, tmp_path, caplog):
    wrong = Expected(len(DATA), "0" * 64)
    refused(server, tmp_path, "SHA-256 is", wrong)
    assert names(tmp_path) == []
    get(server, tmp_path, dataclasses.replace(wrong, certain=False))
    assert "one source only" in caplog.text
    assert names(tmp_path) == [FILE]


def test_a_wrong_size(server, tmp_path, caplog):
    refused(server, tmp_path, "has 10240 bytes, expected 7", Expected(7))
    server.lengths = False
    refused(server, tmp_path, "has 10240 bytes, expected 7", Expected(7))
    assert names(tmp_path) == []
    get(server, tmp_path, Expected(7, certain=False))
    assert "10240" in caplog.text


@pytest.mark.parametrize(
    ("status", "words"), [(404, "no such file"), (403, "login"), (500, "HTTP 500"), (400, "HTTP 400")]
)
def test_http_errors(server, tmp_path, status, words):
    server.status = status
    refused(server, tmp_path, words)
    assert names(tmp_path) == []


def test_a_web_page_instead(server, tmp_path):
    server.kind = "text/html; charset=utf-8"
    refused(server, tmp_path, "web page")
    server.kind = "application/octet-stream"
    server.files[FILE] = b"\n<!DOCTYPE html><p>Sign in"
    refused(server, tmp_path, "web page", Expected())
    assert names(tmp_path) == []


def test_a_full_disk(server, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: usage._replace(free=100))
    refused(server, tmp_path, "disk is full")
    assert names(tmp_path) == []
    monkeypatch.undo()

    class Full:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def write(self, _):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(download, "open", lambda *_: Full(), raising=False)
    refused(server, tmp_path, "disk is full")
    assert names(tmp_path) == []


def test_a_folder_that_cannot_be(server, tmp_path):
    (tmp_path / "file").write_text("")
    refused(server, tmp_path / "file" / "cache", "MY3DGEN_CACHE")


def test_no_network(tmp_path):
    with serving({}) as gone:
        url = gone.url
    for address in (url, "http://no-such-host.invalid"):
        with pytest.raises(My3DGenError, match="cannot be reached"):
            download.download(f"{address}/{FILE}", tmp_path / FILE)
    assert names(tmp_path) == []


def test_progress_and_stopping(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "CHUNK", 1_000)
    monkeypatch.setattr(download, "REPORT", 2_000)
    reports = []
    refused(server, tmp_path, "stopped.*goes on", progress=lambda r: reports.append(r) or len(reports) < 3)
    assert (tmp_path / f"{FILE}.part").stat().st_size == 6_000
    get(server, tmp_path, progress=lambda r: reports.append(r))
    assert len(reports) == 6
    assert all(FILE in r.stage and 1 <= r.step <= r.steps and r.seconds_left >= 0 for r in reports)


def test_two_at_once_fetch_once(server, tmp_path):
    with ThreadPoolExecutor(4) as threads:
        for each in [threads.submit(get, server, tmp_path) for _ in range(4)]:
            each.result()
    assert len(server.requests) == 1
    assert (tmp_path / FILE).read_bytes() == DATA


# ---------------------------------------------------------------- the catalogue


def test_the_catalogue_is_complete():
    for name, file in (releases.RELEASES | releases.HELPERS).items():
        assert file.urls and all(
            url.startswith("https://") and url.endswith(file.official_file) for url in file.urls
        )
        assert file.sha256 is None or len(file.sha256) == 64
        for part in (file.licence, file.licence_page, file.citation, file.official_file):
            assert part and part in releases.terms(name)
        assert file.purpose and all(need in releases.HELPERS for need in file.needs)
    assert releases.RELEASES["ffhq"].bytes == 377_644_956
    assert (
        releases.RELEASES["ffhq"]
        .urls[0]
        .startswith("https://api.ngc.nvidia.com/v2/models/nvidia/research/eg3d/")
    )
    assert not releases.RELEASES["ffhq"].certain
    assert all(file.certain and file.sha256 for file in releases.HELPERS.values())
    with pytest.raises(My3DGenError, match="ffhq, cats, landmarks, arcface"):
        releases.release("nobody")


def test_the_page_says_what_using_other_peoples_weights_means():
    """From the catalogue, so that nothing can be added there and left out here."""
    from my3dgen.studio import compute, tab_about

    table = tab_about.licences()
    for name, file in (releases.RELEASES | releases.HELPERS).items():
        (row,) = [line for line in table.splitlines() if line.startswith(f"| [{name}]")]
        for part in (file.page, file.purpose, file.licence, file.licence_page, file.citation):
            assert part in row
        assert row.count("|") == 5  # nothing in it breaks the table
    assert tab_about._licences().endswith(table)
    for name in releases.RELEASES:
        assert compute.terms(name) == releases.terms(name) and "non-commercial" in compute.terms(name)
    assert compute.terms("heads") == compute.terms("own") == ""


@pytest.fixture
def snapshot(tmp_path):
    """A small file of the official structure, standing in for NVIDIA's."""
    network = official_snapshot.network(random_generator())
    return official_snapshot.write(tmp_path / "made.pkl", G_ema=network).read_bytes()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("MY3DGEN_CACHE", str(folder))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    catalogue._announce.cache_clear()
    catalogue._failed.clear()
    yield folder
    catalogue._failed.clear()


@pytest.mark.parametrize("name", ["ffhq", "cats"])
def test_first_use_downloads_converts_and_says_the_licence(cache, snapshot, monkeypatch, caplog, name):
    file, reports = releases.RELEASES[name].official_file, []
    with serving({file: snapshot}) as server:
        monkeypatch.setenv("MY3DGEN_WEIGHTS", server.url + "/mirror/")
        prior = load_prior(name, "cpu", progress=reports.append)
        assert [path for path, *_ in server.requests] == [f"/mirror/{file}"]
    assert prior.name == name
    assert prior.config == CONFIG
    assert_same_weights(prior.generator, random_generator().state_dict())
    assert prior.sha256 == hashlib.sha256(snapshot).hexdigest()  # an adapter fits the official file, too
    assert names(cache) == [f"{name}.safetensors"]  # the official file is of no more use
    assert caplog.text.count("NVIDIA Source Code License") == 1
    assert ("one source only" in caplog.text) == (name == "ffhq")
    assert reports[-1].step == reports[-1].steps
    assert load_prior(name, "cpu") is prior  # the server is gone: nothing is asked for again
    catalogue._load.cache_clear()
    assert load_prior(name, "cpu").sha256 == prior.sha256


def test_another_process_that_converts_sooner_is_no_error(cache, snapshot, monkeypatch, tmp_path):
    load_official, file = catalogue.official.load_official, releases.RELEASES["cats"].official_file
    cache.mkdir()
    (cache / file).write_bytes(snapshot)
    monkeypatch.setattr(catalogue, "local_file", lambda name: None)  # so that it counts as fetched
    monkeypatch.setattr(catalogue, "fetch", lambda name, progress: cache / file)

    def sooner(path):
        catalogue.files.save_prior(catalogue._converted("cats"), load_official(path), "cats")
        path.unlink()
        return load_official(path)

    monkeypatch.setattr(catalogue.official, "load_official", sooner)
    assert load_prior("cats", "cpu").config == CONFIG
    assert names(cache) == ["cats.safetensors"]


def test_a_download_that_is_no_network_does_not_stay(cache, monkeypatch):
    with serving({"afhqcats512-128.pkl": b"\x80\x04not a pickle"}) as server:
        monkeypatch.setenv("MY3DGEN_WEIGHTS", server.url)
        with pytest.raises(My3DGenError, match="cannot be read"):
            load_prior("cats", "cpu")
    assert names(cache) == []


def test_offline_is_an_error_with_the_remedy(cache, monkeypatch, caplog):
    monkeypatch.setenv("MY3DGEN_OFFLINE", "1")
    catalogue._announce.cache_clear()
    for name in ("ffhq", "cats"):
        with pytest.raises(My3DGenError, match="'heads'") as error:
            load_prior(name, "cpu")
        for word in (releases.RELEASES[name].official_file, str(cache), "MY3DGEN_OFFLINE", "NVIDIA"):
            assert word in str(error.value)
    assert not caplog.records, "the licence is of no interest where there is no file"
    with serving({}) as gone:
        url = gone.url
    monkeypatch.delenv("MY3DGEN_OFFLINE")
    monkeypatch.setenv("MY3DGEN_WEIGHTS", url)
    with pytest.raises(My3DGenError, match="cannot be reached.*put it in.*'heads'"):
        load_prior("ffhq", "cpu")


def test_sources_can_be_chosen(cache, snapshot, tmp_path, monkeypatch):
    folder = tmp_path / "mine"
    folder.mkdir()
    monkeypatch.setenv("MY3DGEN_WEIGHTS", str(folder))
    with pytest.raises(My3DGenError, match="which has no afhqcats512-128.pkl"):
        load_prior("cats", "cpu")
    (folder / "afhqcats512-128.pkl").write_bytes(snapshot)
    assert load_prior("cats", "cpu").config == CONFIG
    assert names(folder) == ["afhqcats512-128.pkl"]  # a file of the user's own stays
    monkeypatch.setenv("MY3DGEN_WEIGHTS", "somebody/eg3d-weights")
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.test")
    assert releases.addresses("ffhq") == (
        "http://hub.test/somebody/eg3d-weights/resolve/main/ffhqrebalanced512-128.pkl",
    )
    monkeypatch.setenv("MY3DGEN_WEIGHTS", "/no/such/folder")
    with pytest.raises(My3DGenError, match="MY3DGEN_WEIGHTS is '/no/such/folder'"):
        load_prior("ffhq", "cpu")


def test_a_helper_is_found_where_a_space_preloads_it(cache, monkeypatch, tmp_path):
    assert not catalogue.installed("arcface")
    monkeypatch.setattr(
        "huggingface_hub.try_to_load_from_cache", lambda repo, file: str(tmp_path / repo / file)
    )
    found = catalogue.local_file("arcface")
    assert found == tmp_path / "Fubei/splatviz_inversion_checkpoints/model_ir_se50.pth"


def test_a_gpu_prefers_ffhq_and_falls_back_to_heads(cache, snapshot, monkeypatch, caplog):
    monkeypatch.setenv("MY3DGEN_OFFLINE", "1")
    gpu = type("Device", (), {"type": "cuda"})()
    assert catalogue._default(gpu, None) == "heads"
    assert "forbids downloads" in caplog.text
    monkeypatch.delenv("MY3DGEN_OFFLINE")
    catalogue._failed.clear()
    with serving({"ffhqrebalanced512-128.pkl": snapshot}) as server:
        monkeypatch.setenv("MY3DGEN_WEIGHTS", server.url)
        assert catalogue._default(gpu, None) == "ffhq"
    assert catalogue._default(gpu, None) == "ffhq"


def test_download_command(cache, monkeypatch, capsys):
    data = b"landmarks"
    file = dataclasses.replace(
        releases.HELPERS["landmarks"], bytes=len(data), sha256=hashlib.sha256(data).hexdigest()
    )
    monkeypatch.setitem(releases.HELPERS, "landmarks", file)
    with serving({file.official_file: data}) as server:
        monkeypatch.setenv("MY3DGEN_WEIGHTS", server.url)
        assert main(["download", "landmarks"]) == 0
    assert (cache / file.official_file).read_bytes() == data
    assert "non-commercial" in capsys.readouterr().out
    assert my3dgen.priors.catalogue.installed("landmarks")
