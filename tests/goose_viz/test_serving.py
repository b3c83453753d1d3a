"""The server, asked by the official client and by people who mean no good."""

import asyncio
import copy
import io
import signal
import subprocess
import sys
import threading
import time

import httpx
import numpy as np
import openai
import pytest
import uvicorn
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save

import goose_viz as gv
from goose_viz import cli
from goose_viz.serving import Settings, engine, make_app
from goose_viz.serving.writing import Held
from goose_viz.templates import conversation

PROMPT = "Once upon a time, there was a"
NAME = "stories-7M"


class Running:
    """A server in a thread."""

    def __init__(self, model, **settings):
        self.app = make_app(model, Settings(**settings))
        config = uvicorn.Config(self.app, host="127.0.0.1", port=0, log_level="error")
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)
        port = self.server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.client = openai.OpenAI(base_url=f"{self.url}/v1", api_key="x", max_retries=0)
        self.http = httpx.Client(base_url=self.url, timeout=60)

    def close(self):
        self.client.close()
        self.http.close()
        self.server.should_exit = True
        self.thread.join(20)
        assert not self.thread.is_alive()


class Endless:
    """A tokenizer under which no document ends.

    What is drawn depends on the last bits of the logits, those on the processor: a text that must
    go on for long may not hang on a seed.
    """

    end_token = None

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer

    def __getattr__(self, name):
        return getattr(self.tokenizer, name)


@pytest.fixture(scope="module")
def endless(demo):
    model = copy.copy(demo)
    model.tokenizer = Endless(demo.tokenizer)
    return model


@pytest.fixture(scope="module")
def running(demo):
    server = Running(demo)
    yield server
    server.close()


@pytest.fixture
def client(running):
    return running.client


@pytest.fixture
def http(running):
    return running.http


def written(demo, prompt, n, seed, **options):
    """What a session writes, asked as OpenAI's defaults ask."""
    plain = {"presence": 0, "frequency": 0, "penalty_decay": 1.0, "top_p": 1.0} | options
    end = demo.tokenizer.end_token
    session = gv.Session(demo, gv.Sampler(seed=seed, stop=(end,), **plain))
    session.feed(prompt)
    steps = list(session.run(n))
    return session, "".join(s.text for s in steps if s.token != end)


def test_models(client):
    (model,) = client.models.list().data
    assert model.id == NAME
    assert client.models.retrieve(NAME).id == NAME


def test_a_completion_is_what_a_session_writes(client, demo):
    found = client.completions.create(model=NAME, prompt=PROMPT, max_tokens=40, seed=3)
    session, text = written(demo, PROMPT, 40, 3)
    assert found.choices[0].text == text
    assert found.choices[0].finish_reason == "length"
    assert found.usage.completion_tokens == 40
    assert found.usage.prompt_tokens == session.position - 40
    again = client.completions.create(
        model=NAME, prompt=demo.tokenizer.encode(PROMPT), max_tokens=40, seed=3
    )
    assert again.choices[0].text == text


@pytest.mark.parametrize("options", [{"temperature": 0}, {"presence_penalty": 1.5, "top_p": 0.5}])
def test_sampling_is_passed_on(client, demo, options):
    names = {"temperature": "temperature", "presence_penalty": "presence", "top_p": "top_p"}
    _, text = written(demo, PROMPT, 30, 5, **{names[n]: v for n, v in options.items()})
    found = client.completions.create(model=NAME, prompt=PROMPT, max_tokens=30, seed=5, **options)
    assert found.choices[0].text == text


def test_streaming(client, demo):
    parts = list(client.completions.create(
        model=NAME, prompt=PROMPT, max_tokens=30, seed=3, stream=True, echo=True,
        stream_options={"include_usage": True},
    ))  # fmt: skip
    _, text = written(demo, PROMPT, 30, 3)
    assert "".join(p.choices[0].text for p in parts if p.choices) == PROMPT + text
    assert len(parts) > 20
    assert [p.choices[0].finish_reason for p in parts if p.choices][-1] == "length"
    assert parts[-1].usage.completion_tokens == 30


def test_several_prompts_and_choices(client, demo):
    prompts = [PROMPT, "The dog"]
    found = client.completions.create(model=NAME, prompt=prompts, max_tokens=12, seed=7, n=2)
    assert [c.index for c in found.choices] == [0, 1, 2, 3]
    for choice in found.choices:
        _, text = written(demo, prompts[choice.index // 2], 12, 7 + choice.index % 2)
        assert choice.text == text
    assert found.usage.completion_tokens == 48


def test_stop_texts_are_not_said(client, demo):
    _, text = written(demo, PROMPT, 60, 3)
    at = text.index(". ")
    for stop in (". ", ["nowhere", text[at - 3 : at + 2]]):
        stops = [stop] if isinstance(stop, str) else stop
        expected = text[: min(i for s in stops if (i := text.find(s)) >= 0)]
        found = client.completions.create(
            model=NAME, prompt=PROMPT, max_tokens=60, seed=3, stop=stop
        )
        assert found.choices[0].text == expected
        assert found.choices[0].finish_reason == "stop"
        parts = client.completions.create(
            model=NAME, prompt=PROMPT, max_tokens=60, seed=3, stop=stop, stream=True
        )
        assert "".join(p.choices[0].text for p in parts) == expected


def test_held_text_says_nothing_too_early_and_loses_nothing():
    rng = np.random.default_rng(0)
    for _ in range(500):
        letters = "".join(rng.choice(list("ab."), 12))
        stops = ["".join(rng.choice(list("ab."), n)) for n in rng.integers(1, 5, 2)]
        held, shown = Held(stops), ""
        for letter in letters:
            shown += held.push(letter)
            assert not any(s in shown for s in stops)
            if held.stopped:
                break
        shown += held.flush()
        ends = [i + len(s) for s in stops if (i := letters.find(s)) >= 0]
        first = min(ends, default=None)
        if first is None:
            assert shown == letters
        else:
            assert held.stopped
            assert shown in {
                letters[: first - len(s)] for s in stops if letters[:first].endswith(s)
            }


def test_logprobs(client, demo):
    found = (
        client.completions.create(model=NAME, prompt=PROMPT, max_tokens=5, seed=3, logprobs=3)
        .choices[0]
        .logprobs
    )
    session, _ = written(demo, PROMPT, 5, 3)
    state, logits = demo.new_state(), []
    for token in session.tokens[:-1]:
        logits.append(demo.forward([token], state).astype(np.float64))
    for i, row in enumerate(logits[-5:]):
        log_p = row - row.max() - np.log(np.exp(row - row.max()).sum())
        token = session.tokens[i - 5]
        np.testing.assert_allclose(found.token_logprobs[i], log_p[token], atol=1e-3)
        best = {demo.tokenizer.label(int(t)) for t in np.argsort(-log_p)[:3]}
        assert set(found.top_logprobs[i]) == best
    chat = client.chat.completions.create(
        model=NAME, messages=[{"role": "user", "content": "Hi"}], max_tokens=4, logprobs=True,
        top_logprobs=2,
    )  # fmt: skip
    told = chat.choices[0].logprobs.content
    assert len(told) == 4
    assert all(len(t.top_logprobs) == 2 for t in told)


def test_chat(client, demo):
    turns = [("system", "Be kind."), ("user", "Hi"), ("assistant", "Hello!"), ("user", "Why?")]
    messages = [{"role": r, "content": c} for r, c in turns]
    _, text = written(demo, conversation("chat", turns), 30, 1)
    text = text.split("\n\nUser:")[0]
    found = client.chat.completions.create(model=NAME, messages=messages, max_tokens=30, seed=1)
    assert found.choices[0].message.content == text.strip()
    parts = client.chat.completions.create(
        model=NAME, messages=messages, max_tokens=30, seed=1, stream=True
    )
    assert "".join(p.choices[0].delta.content or "" for p in parts) == text
    messages[-1]["content"] = [{"type": "text", "text": "Why?"}]
    again = client.chat.completions.create(model=NAME, messages=messages, max_tokens=30, seed=1)
    assert again.choices[0].message.content == text.strip()


# -- memories --------------------------------------------------------------------------------------


def ask(client, name, prompt, n=8, seed=2, **options):
    return client.completions.create(
        model=NAME, prompt=prompt, max_tokens=n, seed=seed, extra_body={"session": name}, **options
    ).choices[0].text  # fmt: skip


def test_a_session_remembers(client, http, demo):
    one, other = (http.post("/v1/state").json()["id"] for _ in range(2))
    first = ask(client, one, PROMPT)
    ask(client, other, "A dog")  # has nothing to do with it
    second = ask(client, one, " and")
    session = gv.Session(demo, gv.Sampler(seed=2, presence=0, frequency=0, penalty_decay=1.0,
                                          top_p=1.0))  # fmt: skip
    session.feed(PROMPT)
    assert "".join(s.text for s in session.run(8)) == first
    session.feed(" and")
    assert "".join(s.text for s in session.run(8)) == second
    about = {s["id"]: s for s in http.get("/v1/state").json()["data"]}
    assert about[one]["tokens"] == session.position
    for name in (one, other):
        assert http.delete(f"/v1/state/{name}").json()["deleted"]
    with pytest.raises(openai.NotFoundError, match="there is no session"):
        ask(client, one, "x")


def test_a_memory_is_fetched_put_and_forked(client, http, demo, tmp_path):
    name = http.post("/v1/state").json()["id"]
    ask(client, name, PROMPT)
    content = http.get(f"/v1/state/{name}").content
    (tmp_path / "a.safetensors").write_bytes(content)
    snapshot = gv.load_snapshot(tmp_path / "a.safetensors")  # what the window opens
    assert snapshot.text.startswith(PROMPT)
    assert http.put("/v1/state/mine", content=content).json()["tokens"] == snapshot.position
    forked = http.post(f"/v1/state/{name}/fork").json()["id"]
    said = {ask(client, n, " and", 12) for n in (name, "mine", forked)}
    assert len(said) == 1
    bare = gv.State.load(tmp_path / "a.safetensors")
    bare.save(tmp_path / "bare.safetensors")
    whole = (tmp_path / "bare.safetensors").read_bytes()
    assert http.put("/v1/state/bare", content=whole).json()["tokens"] == 0
    # where it stands in its text, which a draw depends on, a bare memory does not know
    http.put("/v1/state/mine", content=content)
    surest = {ask(client, n, " and", 12, temperature=0) for n in ("mine", "bare")}
    assert len(surest) == 1
    buffer = load_arrays(whole)
    tuned = {f"blocks.{i}.att.time_state": w for i, w in enumerate(buffer["wkv"])}
    refused = http.put("/v1/state/tuned", content=save(tuned))
    assert refused.status_code == 400
    assert "name its orientation" in refused.json()["error"]["message"]
    taken = http.put("/v1/state/tuned?orientation=[value,key]", content=save(tuned))
    assert taken.status_code == 200
    for n in (name, "mine", forked, "bare", "tuned"):
        http.delete(f"/v1/state/{n}")


def test_a_conversation_goes_on_in_its_session(client, http, demo):
    name = http.post("/v1/state").json()["id"]

    def say(words, **options):
        return client.chat.completions.create(
            model=NAME, messages=[{"role": "user", "content": words}], max_tokens=10, seed=1,
            extra_body={"session": name}, **options,
        )  # fmt: skip

    say("Hi")
    before = http.get("/v1/state").json()["data"][-1]["tokens"]
    answer = say("Why?")
    assert answer.usage.prompt_tokens < before
    with pytest.raises(openai.BadRequestError, match="send what the user says next, alone"):
        client.chat.completions.create(
            model=NAME, extra_body={"session": name},
            messages=[{"role": "user", "content": c} for c in "ab"],
        )  # fmt: skip
    http.delete(f"/v1/state/{name}")


# -- crowds, and people who go ---------------------------------------------------------------------


def test_a_crowd_waits_or_is_told_to_come_again(endless):
    server = Running(endless, at_once=2, waiting=1)
    try:
        found, threads = [], []

        def one():
            try:
                found.append(server.client.completions.create(
                    model=NAME, prompt=PROMPT, max_tokens=300, seed=3))  # fmt: skip
            except openai.RateLimitError as error:
                found.append(error)

        for _ in range(6):
            threads.append(threading.Thread(target=one))
            threads[-1].start()
        for thread in threads:
            thread.join()
        told = [f for f in found if isinstance(f, openai.RateLimitError)]
        texts = {f.choices[0].text for f in found if f not in told}
        assert len(told) == 3
        assert len(texts) == 1
        assert told[0].response.headers["retry-after"] == "1"
        assert server.client.completions.create(model=NAME, prompt=PROMPT, max_tokens=2)
    finally:
        server.close()


def test_who_goes_away_frees_the_place(endless):
    server = Running(endless, at_once=1, waiting=0)
    try:
        name = server.http.post("/v1/state").json()["id"]
        for streamed in (True, False):
            body = {"model": NAME, "prompt": PROMPT, "max_tokens": 4000, "session": name,
                    "stream": streamed}  # fmt: skip
            with httpx.Client(base_url=server.url, timeout=0.3 if not streamed else 30) as other:
                if streamed:
                    with other.stream("POST", "/v1/completions", json=body) as response:
                        lines = response.iter_lines()
                        for _ in range(6):
                            next(lines)
                else:
                    with pytest.raises(httpx.ReadTimeout):
                        other.post("/v1/completions", json=body)
            until = time.monotonic() + 10
            while time.monotonic() < until:
                answer = server.http.post("/v1/completions", json=body | {
                    "max_tokens": 1, "stream": False})  # fmt: skip
                if answer.status_code == 200:
                    break
                assert answer.status_code in (409, 429)
                time.sleep(0.05)
            assert answer.status_code == 200
    finally:
        server.close()


def test_requests_take_turns(endless):
    """A short one is not kept by a long one that came first."""
    server = Running(endless)
    try:
        ended = []

        def long():
            server.client.completions.create(model=NAME, prompt=PROMPT, max_tokens=4000, seed=1)
            ended.append("long")

        thread = threading.Thread(target=long)
        thread.start()
        time.sleep(0.3)
        server.client.completions.create(model=NAME, prompt=PROMPT, max_tokens=5)
        ended.append("short")
        thread.join()
        assert ended == ["short", "long"]
    finally:
        server.close()


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"model": "gpt-4"}, 404, "there is no model 'gpt-4' here; this is stories-7M"),
        ({}, 400, "model: Field required"),
        ({"model": NAME, "max_tokens": 5000}, 400, "5000 tokens are asked for"),
        ({"model": NAME, "max_tokens": -1}, 400, "max_tokens"),
        ({"model": NAME, "temperature": "hot"}, 400, "temperature"),
        ({"model": NAME, "top_p": 2}, 400, "top_p"),
        ({"model": NAME, "prompt": [1, 99999]}, 400, "token 99999 is outside"),
        ({"model": NAME, "prompt": {"file": "/etc/passwd"}}, 400, "prompt"),
        ({"model": NAME, "best_of": 3}, 400, "best_of: Extra inputs are not permitted"),
        ({"model": NAME, "n": 17}, 400, "n:"),
        ({"model": NAME, "n": 9, "prompt": ["a", "b"]}, 400, "18 choices are asked for"),
        ({"model": NAME, "session": "../x"}, 404, "there is no session"),
        ({"model": NAME, "seed": -1}, 400, "seed"),
        ({"model": NAME, "top_k": 10**400}, 400, "top_k"),
        ({"model": NAME, "prompt": []}, 400, "there is no prompt in the list"),
    ],
)
def test_what_will_not_do_is_said(http, body, status, words):
    answer = http.post("/v1/completions", json=body)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert words in error["message"]
    assert "\n" not in error["message"]


def test_other_refusals(http, running, demo):
    for content in (b"{", b"[]", b"\xff", b"null", b"[" * 5000, b'{"a":' * 5000):
        answer = http.post(
            "/v1/completions", content=content, headers={"content-type": "application/json"}
        )
        assert answer.status_code == 400, content[:10]
    assert (
        http.post("/v1/chat/completions", json={"model": NAME, "messages": []}).status_code == 400
    )
    chat = {"model": NAME, "messages": [{"role": "assistant", "content": "x"}]}
    assert "nothing to answer" in http.post("/v1/chat/completions", json=chat).text
    for content in (b"", b"nothing", b"PK\x03\x04", b"\x93NUMPY", b"\x00" * 100):
        answer = http.put("/v1/state/x", content=content)
        assert answer.status_code == 400
        assert answer.json()["error"]["message"]
    assert http.put("/v1/state/a b", content=b"").status_code == 400
    assert http.get("/v1/state/nobody").status_code == 404
    assert http.get("/nowhere").status_code == 404
    assert http.get("/docs").status_code == 404  # which would load scripts from elsewhere
    big = http.post("/v1/completions", content=b"x" * (40 << 20))
    assert big.status_code == 413

    def endless():
        for _ in range(60):
            yield b"x" * (1 << 20)

    assert http.post("/v1/completions", content=endless()).status_code == 413
    # a page whose name was made to lead here
    evil = http.post("/v1/state", headers={"host": "evil.example"})
    assert evil.status_code == 400


def test_a_key_and_the_number_of_sessions(demo):
    server = Running(demo, api_key="secret", sessions=2)
    try:
        with pytest.raises(openai.AuthenticationError):
            server.client.models.list()
        with openai.OpenAI(base_url=f"{server.url}/v1", api_key="secret") as known:
            assert known.models.list().data
        headers = {"authorization": "Bearer secret"}
        for _ in range(2):
            assert server.http.post("/v1/state", headers=headers).status_code == 200
        full = server.http.post("/v1/state", headers=headers)
        assert full.status_code == 429
        assert "2 sessions are held" in full.text
    finally:
        server.close()


def test_the_command(capfd, tmp_path):
    code = "import sys; from goose_viz import cli; sys.exit(cli.run(sys.argv[1:]))"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "serve", "--port", "0"], stderr=subprocess.PIPE, text=True
    )
    line = process.stderr.readline()
    assert "stories-7M at http://127.0.0.1:" in line
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) in (0, 130)
    process.stderr.close()
    for wrong, sentence in ((["--template", "x"], "there is no template"),):
        assert cli.run(["serve", *wrong]) == 2
        assert sentence in capfd.readouterr().err
    server = uvicorn.Server(uvicorn.Config(lambda *_: None, port=0))
    sock = server.config.bind_socket()
    try:
        port = str(sock.getsockname()[1])
        sock.listen()
        assert cli.run(["serve", "--port", port]) == 2
        assert "cannot be listened at" in capfd.readouterr().err
    finally:
        sock.close()


def test_no_page_of_another_site_reaches_it(http):
    for headers in (
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
    ):
        assert http.post("/v1/state", headers=headers).status_code == 403
    mine = http.post("/v1/state", headers={"origin": "http://localhost:3000"})
    assert mine.status_code == 200
    http.delete(f"/v1/state/{mine.json()['id']}")


def test_what_unpacks_to_much_more_is_refused(http):
    """A small archive of a lot of nothing."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, wkv=np.zeros(60_000_000, np.float32))
    assert len(buffer.getvalue()) < 1 << 20
    answer = http.put("/v1/state/x", content=buffer.getvalue())
    assert answer.status_code == 400
    assert "unpacks to" in answer.text


def test_a_memory_that_leads_nowhere_holds_nobody_up(demo, tmp_path):
    """Its numbers are finite and far too large: one sentence, at once."""
    server = Running(demo)
    try:
        state = demo.new_state()
        state.wkv[...] = 3e38
        state.save(tmp_path / "a.safetensors")
        server.http.put("/v1/state/x", content=(tmp_path / "a.safetensors").read_bytes())
        begin = time.monotonic()
        answer = server.http.post("/v1/completions", json={
            "model": NAME, "prompt": "a dog " * 500, "max_tokens": 5, "session": "x"})  # fmt: skip
        assert answer.status_code == 400
        assert "too large to go on from" in answer.text
        assert time.monotonic() - begin < 20
    finally:
        server.close()


def test_who_goes_away_while_a_long_prompt_is_read(demo):
    """Streamed, before the first token: the place is free soon."""
    server = Running(demo, at_once=1, waiting=0)
    try:
        body = {"model": NAME, "prompt": "a dog and a cat " * 30_000, "stream": True}
        with (
            httpx.Client(base_url=server.url, timeout=1.5) as other,
            pytest.raises(httpx.ReadTimeout),
        ):
            other.post("/v1/completions", json=body)
        until = time.monotonic() + 15
        while time.monotonic() < until:
            answer = server.http.post(
                "/v1/completions", json={"model": NAME, "prompt": "a", "max_tokens": 1}
            )
            if answer.status_code == 200:
                break
            time.sleep(0.1)
        assert answer.status_code == 200
    finally:
        server.close()


def test_offsets_are_those_of_the_text(client):
    asked = {"model": NAME, "prompt": PROMPT, "max_tokens": 6, "seed": 3, "logprobs": 1}
    for echo in (False, True):
        choice = client.completions.create(**asked, echo=echo).choices[0]
        parts = client.completions.create(**asked, echo=echo, stream=True)
        streamed = [o for p in parts for o in (p.choices[0].logprobs.text_offset or [])]
        begin = len(PROMPT) if echo else 0
        assert choice.logprobs.text_offset[0] == begin
        assert streamed == choice.logprobs.text_offset
        assert sorted(streamed) == streamed


def test_giving_up_between_two_looks_ends(monkeypatch):
    """The engine asks once whether a request was given up: what ends is told in any case."""

    class Flips(engine._Job):
        """Given up at the very moment it was asked about."""

        def __init__(self, work):
            super().__init__(work)
            self._asked = 0

        given_up = property(
            lambda self: (setattr(self, "_asked", self._asked + 1), self._asked > 3)[1],
            lambda self, value: None,
        )

    monkeypatch.setattr(engine, "_Job", Flips)

    async def work():
        turns = engine.Turns(1, 1)
        pieces = turns.pieces(lambda: iter(range(10**9)))
        await anext(pieces)
        await asyncio.wait_for(pieces.aclose(), 10)
        turns.close()

    asyncio.run(work())
