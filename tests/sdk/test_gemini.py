"""The official Google SDK, natively and translated."""

import asyncio
import base64
import json

import pytest
import pydantic
from google import genai
from google.genai import errors, types

from upstreams import BREAKS, CITY, EVERY, PIXEL, SAID, THOUGHT, UPSTREAMS, limited

MODELS = ["m-native", *EVERY]
NAMES = ("get_weather", "get_time")
TOOLS = types.GenerateContentConfig(
    tools=[
        types.Tool(
            function_declarations=[types.FunctionDeclaration(name=name, description="d", parameters_json_schema=CITY) for name in NAMES]
        )
    ],
    automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
)


class City(pydantic.BaseModel):
    city: str


def connect(gate, key="sk-all"):
    return genai.Client(api_key=key, http_options=types.HttpOptions(base_url=gate))


@pytest.fixture(scope="module")
def client(gate):
    return connect(gate)


def ask(client, model="m-gemini", contents="Hello there", **more):
    return client.models.generate_content(model=model, contents=contents, **more)


def words_of(chunks):
    return "".join(chunk.text or "" for chunk in chunks)


def thoughts_of(answers):
    parts = [part for answer in answers for part in answer.candidates[0].content.parts or []]
    return "".join(part.text for part in parts if part.thought)


@pytest.mark.parametrize("model", MODELS)
def test_a_stream_says_what_a_whole_answer_says(client, main_mock, model):
    brief = types.GenerateContentConfig(system_instruction="Be brief.")
    whole = ask(client, model, config=brief)
    assert whole.text == SAID
    assert whole.usage_metadata.total_token_count > whole.usage_metadata.prompt_token_count > 0
    assert "Be brief." in main_mock.last()["body"]
    chunks = list(client.models.generate_content_stream(model=model, contents="Hello there", config=brief))
    assert len(chunks) > 3 and words_of(chunks) == whole.text
    assert chunks[-1].candidates[0].finish_reason == types.FinishReason.STOP
    assert chunks[-1].usage_metadata.total_token_count == whole.usage_metadata.total_token_count


@pytest.mark.parametrize("model", MODELS)
def test_the_output_limit_ends_with_max_tokens(client, main_mock, model):
    main_mock.script(tokens=40)
    config = types.GenerateContentConfig(max_output_tokens=20)
    answer = ask(client, model, config=config)
    assert (answer.candidates[0].finish_reason, answer.usage_metadata.candidates_token_count) == (types.FinishReason.MAX_TOKENS, 20)
    chunks = list(client.models.generate_content_stream(model=model, contents="Hello there", config=config))
    assert (chunks[-1].candidates[0].finish_reason, words_of(chunks)) == (types.FinishReason.MAX_TOKENS, answer.text)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("question, names", [("What is the weather?", NAMES[:1]), ("Tools, in parallel", NAMES)])
def test_functions_and_their_results(client, main_mock, model, question, names):
    wanted = [(name, {"city": "Paris"}) for name in names]
    answer = ask(client, model, question, config=TOOLS)
    assert [(call.name, call.args) for call in answer.function_calls] == wanted
    chunks = client.models.generate_content_stream(model=model, contents=question, config=TOOLS)
    assert [(call.name, call.args) for chunk in chunks for call in chunk.function_calls or []] == wanted
    results = [
        types.Part.from_function_response(name=call.name, response={"result": f"sunny {at}"})
        for at, call in enumerate(answer.function_calls)
    ]
    asked = types.Content(role="user", parts=[types.Part(text=question)])
    turns = [asked, answer.candidates[0].content, types.Content(role="user", parts=results)]
    assert "The tool answered: " in ask(client, model, turns, config=TOOLS).text
    assert all(f"sunny {at}" in main_mock.last()["body"] for at in range(len(names)))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("mode, allowed, names", [("ANY", None, ["get_weather"]), ("ANY", ["get_time"], ["get_time"]), ("NONE", None, [])])
def test_the_choice_of_functions_is_kept(client, main_mock, model, mode, allowed, names):
    choice = types.FunctionCallingConfig(mode=mode, allowed_function_names=allowed)
    config = TOOLS.model_copy(update={"tool_config": types.ToolConfig(function_calling_config=choice)})
    assert [call.name for call in ask(client, model, config=config).function_calls or []] == names


@pytest.mark.parametrize("model", EVERY)
def test_the_sdks_own_loop_runs_a_function(client, main_mock, model):
    asked = []

    def get_weather(city: str) -> str:
        """Gets the weather."""
        asked.append(city)
        return "sunny in Paris"

    config = types.GenerateContentConfig(tools=[get_weather])
    assert "sunny in Paris" in ask(client, model, "What is the weather?", config=config).text
    assert asked == ["Paris"]
    chunks = client.models.generate_content_stream(model=model, contents="What is the weather?", config=config)
    assert "sunny in Paris" in words_of(chunks)
    assert asked == ["Paris", "Paris"]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("member, schema", [("response_schema", City), ("response_json_schema", CITY)])
def test_answers_keep_to_a_schema(client, main_mock, model, member, schema):
    config = types.GenerateContentConfig(response_mime_type="application/json", **{member: schema})
    whole = ask(client, model, config=config)
    assert json.loads(whole.text) == {"city": "Paris"} and whole.candidates[0].finish_reason == types.FinishReason.STOP
    chunks = client.models.generate_content_stream(model=model, contents="Hello there", config=config)
    assert json.loads(words_of(chunks)) == {"city": "Paris"}


@pytest.mark.parametrize("model", MODELS)
def test_pictures_go_through(client, main_mock, model):
    parts = [types.Part(text="Look"), types.Part.from_bytes(data=base64.b64decode(PIXEL), mime_type="image/png")]
    assert "Look" in ask(client, model, types.Content(role="user", parts=parts)).text
    body = main_mock.last()["body"].replace("-", "+").replace("_", "/")
    assert PIXEL in body and "png" in body, "in either alphabet of base64: the SDK's own is Google's alone"


@pytest.mark.parametrize("model", MODELS)
def test_thoughts_come_apart_from_the_answer(client, main_mock, model):
    main_mock.script(thought=THOUGHT)
    thinking = types.ThinkingConfig(include_thoughts=True, thinking_budget=2000)
    config = types.GenerateContentConfig(thinking_config=thinking, max_output_tokens=4000)
    whole = ask(client, model, config=config)
    assert (thoughts_of([whole]), whole.text) == (THOUGHT, SAID)
    chunks = list(client.models.generate_content_stream(model=model, contents="Hello there", config=config))
    assert (thoughts_of(chunks), words_of(chunks)) == (THOUGHT, SAID)
    usage = chunks[-1].usage_metadata
    assert usage.total_token_count == usage.prompt_token_count + usage.candidates_token_count + (usage.thoughts_token_count or 0)
    assert usage == whole.usage_metadata


LOST = {
    "m-chat": {"/generationConfig/topK"},
    "m-responses": {"/generationConfig/topK", "/generationConfig/seed"},
    "m-anthropic": {"/generationConfig/seed"},
    "m-gemini": set(),
    "m-bedrock": {"/generationConfig/seed"},
}
LOSSY = types.GenerateContentConfig(top_k=5, seed=7)


@pytest.mark.parametrize("model, lost", LOST.items())
def test_what_was_lost_is_named(client, main_mock, model, lost):
    streamed = client.models.generate_content_stream(model=model, contents="Hello there", config=LOSSY)
    for answer in (ask(client, model, config=LOSSY), next(streamed)):
        headers = answer.sdk_http_response.headers
        assert set(filter(None, headers.get("x-polygate-dropped", "").split(", "))) == lost


@pytest.mark.parametrize("loser, lost", [(model, lost) for model, lost in LOST.items() if lost])
def test_strictly_nothing_is_lost(gate, main_mock, loser, lost):
    options = types.HttpOptions(base_url=gate, headers={"x-polygate-strict": "true"})
    strict = genai.Client(api_key="sk-all", http_options=options)
    with pytest.raises(errors.ClientError) as refused:
        ask(strict, loser, config=LOSSY)
    assert refused.value.code == 400 and all(name in refused.value.message for name in lost)
    with pytest.raises(errors.ClientError):
        list(strict.models.generate_content_stream(model=loser, contents="Hello there", config=LOSSY))
    assert main_mock.ledger() == []
    assert ask(strict, loser).text == SAID, "what loses nothing passes"


def test_the_provider_sees_its_own_key_and_model(client, main_mock):
    answer = ask(client)
    seen = main_mock.last()
    assert dict(seen["headers"])["x-goog-api-key"] == "up-gemini" and "sk-all" not in str(seen)
    assert seen["model"] == "gemini-2.5-flash"
    assert answer.sdk_http_response.headers["x-polygate-provider"] == "gemini"
    assert answer.sdk_http_response.headers["x-request-id"]


@pytest.mark.parametrize("counted, upstream", UPSTREAMS.items())
def test_tokens_are_counted_and_estimates_say_so(client, main_mock, counted, upstream):
    def count(times):
        answer = client.models.count_tokens(model=counted, contents="Hello there. " * times)
        assert answer.sdk_http_response.headers.get("x-polygate-estimated") == (None if upstream.counts else "true")
        return answer.total_tokens

    short, long = count(1), count(50)
    assert 0 < short and short + 50 < long
    asked = [(entry["endpoint"], entry["model"]) for entry in main_mock.ledger()]
    assert asked == [(upstream.counts, upstream.model)] * (2 if upstream.counts else 0)


def test_embeddings(client, main_mock):
    answer = client.models.embed_content(model="m-gemini", contents=[types.Content(parts=[types.Part(text=text)]) for text in "ab"])
    assert [len(each.values) for each in answer.embeddings] == [8, 8]
    assert answer.embeddings[0].values != answer.embeddings[1].values
    assert (main_mock.last()["endpoint"], main_mock.last()["model"]) == ("gemini-embed", "gemini-2.5-flash")


def test_models_named_inside_a_batch_of_embeddings_are_mapped_as_the_path_is(client, main_mock):
    client.models.embed_content(model="m-gemini", contents="a")
    batch = json.loads(main_mock.last()["body"])["requests"]
    assert [request["model"] for request in batch] == ["models/gemini-2.5-flash"], "Google refuses any other than the path's"


def test_models_are_listed_and_found(client):
    assert {f"models/{model}" for model in MODELS} <= {model.name for model in client.models.list()}
    assert client.models.get(model="m-gemini").name == "models/m-gemini"
    with pytest.raises(errors.ClientError) as missing:
        client.models.get(model="none")
    assert missing.value.code == 404


def test_the_async_client_answers_and_streams(gate, main_mock):
    async def everything():
        client = connect(gate).aio

        async def streamed(model):
            stream = await client.models.generate_content_stream(model=model, contents="Hello there")
            return words_of([chunk async for chunk in stream])

        wholes = asyncio.gather(*[ask(client, model) for model in MODELS])
        streams = asyncio.gather(*[streamed(model) for model in MODELS])
        return [answer.text for answer in await wholes], await streams

    assert asyncio.run(everything()) == ([SAID] * len(MODELS), [SAID] * len(MODELS))


# Errors.


@pytest.mark.parametrize(
    "key, refused_model, code, status",
    [
        ("sk-wrong", "m-gemini", 401, "UNAUTHENTICATED"),
        ("sk-some", "m-gemini", 403, "PERMISSION_DENIED"),
        ("sk-all", "none", 404, "NOT_FOUND"),
    ],
)
def test_what_the_gateway_refuses_has_its_code(gate, key, refused_model, code, status):
    client = connect(gate, key)
    with pytest.raises(errors.ClientError) as refused:
        ask(client, refused_model)
    assert (refused.value.code, refused.value.status) == (code, status)
    with pytest.raises(errors.ClientError) as refused:
        list(client.models.generate_content_stream(model=refused_model, contents="Hi"))
    assert refused.value.code == code


def test_the_limit_of_a_key_is_429_with_retry_after(gate, main_mock):
    slow = connect(gate, "sk-slow-gemini")
    assert "Hello there" in ask(slow).text
    with pytest.raises(errors.ClientError) as limited:
        ask(slow)
    assert (limited.value.code, limited.value.status) == (429, "RESOURCE_EXHAUSTED")
    assert limited.value.response.headers["retry-after"] == "1"


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("code, wanted", [(400, errors.ClientError), (500, errors.ServerError), (503, errors.ServerError)])
def test_what_the_provider_says_has_its_code_and_words(client, main_mock, model, code, wanted):
    main_mock.script(status=code, error="contents are odd")
    with pytest.raises(wanted, match="contents are odd") as failed:
        ask(client, model)
    assert failed.value.code == code


@pytest.mark.parametrize("full", limited("gemini"))
def test_a_limit_of_the_provider_is_429_with_its_retry_after(client, main_mock, full):
    main_mock.script(status=429, error="slow down", headers={"retry-after": "7"})
    for call in (lambda: ask(client, full), lambda: list(client.models.generate_content_stream(model=full, contents="Hi"))):
        with pytest.raises(errors.ClientError) as refused:
            call()
        assert (refused.value.code, refused.value.status) == (429, "RESOURCE_EXHAUSTED")
        assert refused.value.response.headers["retry-after"] in {"6", "7"}


# Streams that break, and those that must not.


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("fault", BREAKS)
def test_a_stream_that_breaks_raises(client, main_mock, model, fault):
    main_mock.script(fault=fault, tokens=30)
    chunks = []
    with pytest.raises(errors.APIError):
        chunks.extend(client.models.generate_content_stream(model=model, contents="Hello there"))
    assert words_of(chunks).startswith("You "), "the words before the break came"
    assert all(chunk.candidates[0].finish_reason is None for chunk in chunks), "no clean end"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("then", [{"status": 500}, {"status": 503}, {"fault": "reset"}, {"fault": "html"}, {"fault": {"error-after": 0}}])
def test_failover_is_not_seen(client, two_model, broken_mock, then, stream):
    broken_mock.script(**then)
    if stream:
        text = words_of(client.models.generate_content_stream(model=two_model, contents="Hello there"))
    else:
        text = ask(client, two_model).text
    assert text == SAID
