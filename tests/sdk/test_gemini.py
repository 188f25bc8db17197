"""The official Google SDK on the native lane."""

import pytest
from google import genai
from google.genai import errors, types

MODELS = ["m-native", "m-gemini"]


def connect(gate, key="sk-all"):
    return genai.Client(api_key=key, http_options=types.HttpOptions(base_url=gate))


@pytest.fixture
def client(gate):
    return connect(gate)


@pytest.mark.parametrize("model", MODELS)
def test_a_stream_says_what_a_whole_answer_says(client, main_mock, model):
    whole = client.models.generate_content(model=model, contents="Hello there")
    assert "Hello there" in whole.text
    assert whole.usage_metadata.total_token_count > 0
    chunks = list(client.models.generate_content_stream(model=model, contents="Hello there"))
    assert "".join(chunk.text or "" for chunk in chunks) == whole.text
    assert chunks[-1].candidates[0].finish_reason == types.FinishReason.STOP
    assert chunks[-1].usage_metadata.total_token_count == whole.usage_metadata.total_token_count


def test_functions(client, main_mock):
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    declared = types.FunctionDeclaration(name="get_weather", description="d", parameters_json_schema=schema)
    config = types.GenerateContentConfig(
        tools=[types.Tool(function_declarations=[declared])],
        automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
    )
    answer = client.models.generate_content(model="m-gemini", contents="What is the weather?", config=config)
    call = answer.function_calls[0]
    assert (call.name, call.args) == ("get_weather", {"city": "Paris"})


def test_tokens_are_counted_and_models_listed(client):
    assert client.models.count_tokens(model="m-gemini", contents="Hello there").total_tokens > 0
    assert "models/m-gemini" in [model.name for model in client.models.list()]
    assert client.models.get(model="m-gemini").name == "models/m-gemini"


def test_errors_say_what_they_are(gate, client, main_mock):
    for key, model, code in [("sk-wrong", "m-gemini", 401), ("sk-all", "none", 404), ("sk-some", "m-gemini", 403)]:
        mine = connect(gate, key)
        with pytest.raises(errors.ClientError) as refused:
            mine.models.generate_content(model=model, contents="Hi")
        assert refused.value.code == code
    main_mock.script(status=400, error="contents are odd")
    with pytest.raises(errors.ClientError, match="contents are odd"):
        client.models.generate_content(model="m-gemini", contents="Hi")


def test_failover_is_not_seen(client, main_mock, broken_mock):
    broken_mock.script(status=503)
    assert "Hello there" in client.models.generate_content(model="m-two", contents="Hello there").text
    chunks = client.models.generate_content_stream(model="m-two", contents="Hello there")
    assert "Hello there" in "".join(chunk.text or "" for chunk in chunks)
