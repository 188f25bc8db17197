"""The official Google SDK on the native lane."""

import asyncio
import json

import pytest
from google import genai
from google.genai import errors, types

MODELS = ["m-native", "m-gemini"]
NAMES = ("get_weather", "get_time")
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOLS = types.GenerateContentConfig(
    tools=[
        types.Tool(
            function_declarations=[types.FunctionDeclaration(name=name, description="d", parameters_json_schema=SCHEMA) for name in NAMES]
        )
    ],
    automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
)
BREAKS = [{"cut-after": 6}, {"reset-after": 8}, {"error-after": 8}, {"end-after": 8}]


def connect(gate, key="sk-all"):
    return genai.Client(api_key=key, http_options=types.HttpOptions(base_url=gate))


@pytest.fixture
def client(gate):
    return connect(gate)


def ask(client, model="m-gemini", contents="Hello there", **more):
    return client.models.generate_content(model=model, contents=contents, **more)


def words_of(chunks):
    return "".join(chunk.text or "" for chunk in chunks)


@pytest.mark.parametrize("model", MODELS)
def test_a_stream_says_what_a_whole_answer_says(client, main_mock, model):
    brief = types.GenerateContentConfig(system_instruction="Be brief.")
    whole = ask(client, model, config=brief)
    assert whole.text == 'You said: "Hello there". This is mock, a simulated model.'
    assert whole.usage_metadata.total_token_count > whole.usage_metadata.prompt_token_count > 0
    assert "Be brief." in main_mock.last()["body"]
    chunks = list(client.models.generate_content_stream(model=model, contents="Hello there", config=brief))
    assert len(chunks) > 3 and words_of(chunks) == whole.text
    assert chunks[-1].candidates[0].finish_reason == types.FinishReason.STOP
    assert chunks[-1].usage_metadata.total_token_count == whole.usage_metadata.total_token_count


@pytest.mark.parametrize("model", MODELS)
def test_the_output_limit_ends_with_max_tokens(client, main_mock, model):
    answer = ask(client, model, config=types.GenerateContentConfig(max_output_tokens=2))
    assert (answer.candidates[0].finish_reason, answer.text) == (types.FinishReason.MAX_TOKENS, "You said: ")


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
    assert "sunny 0" in ask(client, model, turns, config=TOOLS).text
    assert all(f"sunny {at}" in main_mock.last()["body"] for at in range(len(names)))


def test_the_provider_sees_its_own_key_and_model(client, main_mock):
    answer = ask(client)
    seen = main_mock.last()
    assert dict(seen["headers"])["x-goog-api-key"] == "up-gemini" and "sk-all" not in str(seen)
    assert seen["model"] == "gemini-2.5-flash"
    assert answer.sdk_http_response.headers["x-polygate-provider"] == "gemini"
    assert answer.sdk_http_response.headers["x-request-id"]


def test_tokens_are_counted(client, main_mock):
    short, long = (client.models.count_tokens(model="m-gemini", contents="Hello there" * times).total_tokens for times in (1, 50))
    assert 0 < short < long
    assert (main_mock.last()["endpoint"], main_mock.last()["model"]) == ("gemini-count", "gemini-2.5-flash")


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
        stream = await client.models.generate_content_stream(model="m-gemini", contents="Hello there")
        return words_of([chunk async for chunk in stream]), (await ask(client)).text

    streamed, whole = asyncio.run(everything())
    assert streamed == whole and "Hello there" in whole


# Errors.


@pytest.mark.parametrize(
    "key, model, code, status",
    [
        ("sk-wrong", "m-gemini", 401, "UNAUTHENTICATED"),
        ("sk-some", "m-gemini", 403, "PERMISSION_DENIED"),
        ("sk-all", "none", 404, "NOT_FOUND"),
    ],
)
def test_what_the_gateway_refuses_has_its_code(gate, key, model, code, status):
    client = connect(gate, key)
    with pytest.raises(errors.ClientError) as refused:
        ask(client, model)
    assert (refused.value.code, refused.value.status) == (code, status)
    with pytest.raises(errors.ClientError) as refused:
        list(client.models.generate_content_stream(model=model, contents="Hi"))
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
    assert text == 'You said: "Hello there". This is mock, a simulated model.'
