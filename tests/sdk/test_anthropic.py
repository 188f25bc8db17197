"""The official Anthropic SDK on the native lane."""

import anthropic
import pytest

HELLO = [{"role": "user", "content": "Hello there"}]
TOOL = {"name": "get_weather", "description": "d", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}


@pytest.fixture
def client(gate):
    return anthropic.Anthropic(base_url=gate, api_key="sk-all", max_retries=0)


@pytest.mark.parametrize("model", ["m-native", "m-anthropic"])
def test_a_stream_says_what_a_whole_answer_says(client, main_mock, model):
    whole = client.messages.create(model=model, max_tokens=100, messages=HELLO)
    assert "Hello there" in whole.content[0].text
    assert whole.stop_reason == "end_turn" and whole.usage.output_tokens > 0
    with client.messages.stream(model=model, max_tokens=100, messages=HELLO) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == whole.content[0].text
    assert (final.stop_reason, final.usage.output_tokens) == ("end_turn", whole.usage.output_tokens)


def test_tools(client, main_mock):
    asked = [{"role": "user", "content": "What is the weather?"}]
    answer = client.messages.create(model="m-anthropic", max_tokens=100, messages=asked, tools=[TOOL])
    call = answer.content[0]
    assert (answer.stop_reason, call.name, call.input) == ("tool_use", "get_weather", {"city": "Paris"})
    result = [{"type": "tool_result", "tool_use_id": call.id, "content": "sunny"}]
    turns = [*asked, {"role": "assistant", "content": answer.content}, {"role": "user", "content": result}]
    assert "sunny" in client.messages.create(model="m-anthropic", max_tokens=100, messages=turns, tools=[TOOL]).content[0].text


def test_beta_headers_and_versions_reach_the_provider(client, main_mock):
    client.messages.create(model="m-anthropic", max_tokens=5, messages=HELLO, extra_headers={"anthropic-beta": "b-1"})
    headers = dict(main_mock.ledger()[-1]["headers"])
    assert headers["anthropic-beta"] == "b-1"
    assert headers["anthropic-version"] == client.default_headers["anthropic-version"]
    assert headers["x-api-key"] == "up-anthropic"


def test_tokens_are_counted_and_models_listed(client):
    assert client.messages.count_tokens(model="m-anthropic", messages=HELLO).input_tokens > 0
    assert "m-anthropic" in [model.id for model in client.models.list()]
    assert client.models.retrieve("m-anthropic").id == "m-anthropic"


def test_errors_are_of_the_right_class(gate, client, main_mock):
    def ask(client, model="m-native"):
        return client.messages.create(model=model, max_tokens=5, messages=HELLO)

    with pytest.raises(anthropic.AuthenticationError):
        ask(anthropic.Anthropic(base_url=gate, api_key="sk-wrong", max_retries=0))
    with pytest.raises(anthropic.NotFoundError):
        ask(client, "none")
    main_mock.script(status=400, error="max_tokens is odd")
    with pytest.raises(anthropic.BadRequestError, match="max_tokens is odd"):
        ask(client)
    main_mock.control("DELETE", "script")
    main_mock.script(status=529)
    with pytest.raises(anthropic.APIStatusError) as overloaded:
        ask(client)
    assert overloaded.value.status_code == 529


def test_a_stream_that_breaks_raises(client, main_mock):
    main_mock.script(fault={"cut-after": 8}, tokens=30)
    with pytest.raises(anthropic.APIError):
        with client.messages.stream(model="m-native", max_tokens=100, messages=HELLO) as stream:
            list(stream.text_stream)


@pytest.mark.parametrize("then", [{"status": 529}, {"fault": "reset"}, {"fault": {"error-after": 1}}])
def test_failover_is_not_seen(client, main_mock, broken_mock, then):
    broken_mock.script(**then)
    with client.messages.stream(model="m-two", max_tokens=100, messages=HELLO) as stream:
        assert "Hello there" in "".join(stream.text_stream)
