"""Model folders, references, pickles and forks of a text encoder."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graphs import save_pooling_model, save_text_model, save_tokenizer

from recengine import BundleError, TextEncoder
from recengine.encoders.folder import TextOptions, read_options


def write(folder: Path, name: str, value: Any) -> None:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value))


def module(name: str, path: str = "") -> dict[str, str]:
    return {"name": path, "path": path, "type": f"sentence_transformers.models.{name}"}


# --- folders --------------------------------------------------------------------------------------


def test_bare_folder_is_opened_with_defaults(folder: Path) -> None:
    encoder = TextEncoder.open(folder, num_threads=1)
    assert encoder.options == TextOptions("mean", True, 256, "", "")
    assert (encoder.device, encoder.reason, encoder.dim) == ("cpu", "asked for", 5)
    assert repr(encoder) == f"TextEncoder('{folder}/model.onnx', device='cpu', dim=5)"


def test_folder_says_pooling_length_and_prompts(folder: Path) -> None:
    (folder / "onnx").mkdir()
    (folder / "model.onnx").rename(folder / "onnx" / "model.onnx")
    write(folder, "modules.json", [module("Transformer"), module("Pooling", "1_Pooling")])
    flags = {"word_embedding_dimension": 5, "pooling_mode_cls_token": True}
    write(folder, "1_Pooling/config.json", {**flags, "pooling_mode_mean_tokens": False})
    write(folder, "sentence_bert_config.json", {"max_seq_length": 7, "do_lower_case": False})
    prompts = {"query": "query: ", "passage": "p "}
    write(folder, "config_sentence_transformers.json", {"prompts": prompts})
    encoder = TextEncoder.open(folder, num_threads=1)
    assert encoder.options == TextOptions("cls", False, 7, "query: ", "p ")


@pytest.mark.parametrize(
    ("config", "query", "document"),
    [
        ({"prompts": {"query": "q", "document": "d"}, "default_prompt_name": None}, "q", "d"),
        ({"prompts": {"query": "q", "other": "o"}, "default_prompt_name": "other"}, "q", "o"),
        ({"prompts": {}, "default_prompt_name": None}, "", ""),
        ({"prompts": None}, "", ""),
    ],
)
def test_prompts_are_read(folder: Path, config: Any, query: str, document: str) -> None:
    write(folder, "config_sentence_transformers.json", config)
    options = read_options(folder)
    assert (options.query_prompt, options.document_prompt) == (query, document)


def test_normalize_module_is_read(folder: Path) -> None:
    write(folder, "modules.json", [module("Transformer"), module("Normalize", "2_Normalize")])
    assert read_options(folder).normalize
    write(folder, "modules.json", [module("Transformer")])
    assert not read_options(folder).normalize


def test_folder_of_a_graph_that_pools(folder: Path) -> None:
    save_pooling_model(folder / "model.onnx")
    assert TextEncoder.open(folder, num_threads=1).options.pooling == "none"


def test_what_the_folder_asks_and_we_lack_is_refused(folder: Path) -> None:
    write(folder, "modules.json", [module("Transformer"), module("Dense", "2_Dense")])
    with pytest.raises(ValueError, match="uses the module Dense; known are Transformer, Pooling"):
        TextEncoder.open(folder)
    write(folder, "modules.json", [module("Pooling", "1_Pooling")])
    for asked in (
        ["pooling_mode_max_tokens"],
        ["pooling_mode_cls_token", "pooling_mode_lasttoken"],
    ):
        write(folder, "1_Pooling/config.json", dict.fromkeys(asked, True))
        with pytest.raises(ValueError, match="must set exactly one of pooling_mode_mean_tokens"):
            TextEncoder.open(folder)


@pytest.mark.parametrize("name", ["modules.json", "sentence_bert_config.json"])
@pytest.mark.parametrize("content", ["{", "3", "\udcff"])
def test_damaged_configuration_is_named(folder: Path, name: str, content: str) -> None:
    (folder / name).write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(BundleError, match=f"{name} is damaged"):
        TextEncoder.open(folder)


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
def test_missing_file_of_a_folder_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"must hold {name}"):
        TextEncoder.open(folder)


def test_neither_folder_nor_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"a folder or one of .*minilm-l6-int8.*, got"):
        TextEncoder.open(tmp_path / "nothing")


def test_damaged_tokenizer_is_named(folder: Path) -> None:
    content = (folder / "tokenizer.json").read_text()
    for damaged in ("", content[: len(content) // 2], "[]"):
        (folder / "tokenizer.json").write_text(damaged)
        with pytest.raises(BundleError, match=r"tokenizer\.json cannot be read as a tokenizer"):
            TextEncoder.open(folder)


def test_missing_tokenizers_names_the_extra(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ImportError, match=r"pip install 'recengine\[text\]'"):
        TextEncoder.open(folder)


# --- references -----------------------------------------------------------------------------------


@pytest.fixture
def special(folder: Path) -> TextEncoder:
    files = folder / "model.onnx", folder / "tokenizer.json"
    return TextEncoder(
        *files, pooling="last", normalize=False, max_length=5, query_prompt="query: ", num_threads=1
    )


def test_reference_finds_the_encoder_again(special: TextEncoder) -> None:
    reference = json.loads(json.dumps(special.reference()))
    again = TextEncoder.from_reference(reference, num_threads=1)
    assert (again.options, again.digest) == (special.options, special.digest)
    assert again.reference() == special.reference()
    np.testing.assert_array_equal(again.encode_query("a b"), special.encode_query("a b"))


def test_digest_is_of_what_makes_the_vectors(folder: Path, encoder: TextEncoder) -> None:
    elsewhere = folder.parent / "elsewhere"
    shutil.copytree(folder, elsewhere)
    assert TextEncoder.open(elsewhere, num_threads=1).digest == encoder.digest
    files = elsewhere / "model.onnx", elsewhere / "tokenizer.json"
    others = [
        TextEncoder(*files, num_threads=1, pooling="cls").digest,
        TextEncoder(*files, num_threads=1, normalize=False).digest,
        TextEncoder(*files, num_threads=1, max_length=9).digest,
        TextEncoder(*files, num_threads=1, query_prompt="q").digest,
        TextEncoder(*files, num_threads=1, document_prompt="q").digest,
    ]
    save_tokenizer(elsewhere / "tokenizer.json", special=False)
    others.append(TextEncoder(*files, num_threads=1).digest)
    save_text_model(elsewhere / "model.onnx", types=True)
    others.append(TextEncoder(*files, num_threads=1).digest)
    assert len({encoder.digest, *others}) == len(others) + 1


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
def test_reference_refuses_another_file(folder: Path, special: TextEncoder, name: str) -> None:
    reference = special.reference()
    with (folder / name).open("ab") as file:
        file.write(b" ")
    with pytest.raises(BundleError, match=f"{name} is not the file it was"):
        TextEncoder.from_reference(reference)


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
def test_reference_names_a_file_that_is_gone(folder: Path, special: TextEncoder, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=name):
        TextEncoder.from_reference(special.reference())


def test_reference_by_name_is_fetched_where_its_path_is_gone(
    folder: Path, encoder: TextEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    from recengine.data import sources

    cache = folder.parent / "cache"
    shutil.copytree(folder, cache)
    monkeypatch.setattr(sources, "fetch", lambda name: {"minilm-l6-int8": cache}[name])
    reference = {**encoder.reference(), "source": "minilm-l6-int8"}
    shutil.rmtree(folder)
    again = TextEncoder.from_reference(reference, num_threads=1)
    assert again.digest == encoder.digest
    assert again.reference()["model"] == str(cache / "model.onnx")


@pytest.mark.parametrize(
    "change",
    [{"kind": "image"}, {"model": None}, {"options": {"pool": 1}}, {"options": None}, {"x": 1}],
)
def test_damaged_reference_is_refused(special: TextEncoder, change: dict[str, Any]) -> None:
    with pytest.raises(BundleError, match=r"kind must be 'text'|no text encoder's"):
        TextEncoder.from_reference({**special.reference(), **change})


@pytest.mark.parametrize("missing", ["kind", "model_digest", "options"])
def test_reference_that_lacks_a_part_is_refused(special: TextEncoder, missing: str) -> None:
    reference = special.reference()
    del reference[missing]
    with pytest.raises(BundleError, match=f"no text encoder's.*{missing}"):
        TextEncoder.from_reference(reference)


# --- pickle and fork ------------------------------------------------------------------------------


def test_pickle_is_a_reference(special: TextEncoder) -> None:
    content = pickle.dumps(special)
    assert len(content) < 1000
    again = pickle.loads(content)
    assert again.digest == special.digest
    np.testing.assert_array_equal(again.encode(["a b", "c"]), special.encode(["a b", "c"]))


def test_unpickle_refuses_another_file(folder: Path, special: TextEncoder) -> None:
    content = pickle.dumps(special)
    save_text_model(folder / "model.onnx", types=True)
    with pytest.raises(BundleError, match=r"model\.onnx is not the file it was"):
        pickle.loads(content)


FORK = """
import os, sys, warnings
warnings.simplefilter("ignore")  # Python 3.12 warns of a fork beside threads: that is the test
from recengine import TextEncoder
encoder = TextEncoder.open(sys.argv[1], num_threads=3)
texts = ["a b c", "d", "", "p o n"] * 9
expected = encoder.encode(texts)
pids = []
for _ in range(2):
    pids.append(os.fork())
    if pids[-1] == 0:
        assert (encoder.encode(texts) == expected).all()
        sys.exit(0)
assert (encoder.encode(texts) == expected).all()
print([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids])
"""


def test_forked_children_encode_the_same(folder: Path) -> None:
    command = [sys.executable, "-c", FORK, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "[0, 0]", "")


# --- output ---------------------------------------------------------------------------------------


def test_output_inside_the_graph_is_part_of_what_the_encoder_is(
    folder: Path, encoder: TextEncoder
) -> None:
    inside = TextEncoder.open(folder, num_threads=1, output="h1")
    np.testing.assert_array_equal(inside.encode(["a b", "c"]), encoder.encode(["a b", "c"]))
    assert inside.options.output == "h1"
    assert inside.digest != encoder.digest
    again = TextEncoder.from_reference(json.loads(json.dumps(inside.reference())), num_threads=1)
    assert again.digest == inside.digest
    assert again._graph.session.output == "h1"
    del (old := encoder.reference())["options"]["output"]  # as it was saved before there was one
    assert TextEncoder.from_reference(old, num_threads=1).digest == encoder.digest


def test_output_that_takes_no_mask_goes_without(folder: Path, encoder: TextEncoder) -> None:
    bare = TextEncoder.open(folder, num_threads=1, output="h0")
    assert [port.name for port in bare._graph.session.inputs] == ["input_ids"]
    texts = ["a b", "c", "d e f", "g h"]
    np.testing.assert_allclose(bare.encode(texts), encoder.encode(texts), rtol=1e-6, atol=1e-7)


def test_output_that_is_none_of_tokens_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"output must be a tensor that model\.onnx makes: last_"):
        TextEncoder.open(folder, output="hidden")
    with pytest.raises(ValueError, match=r"model must take input_ids.* takes attention_mask"):
        TextEncoder.open(folder, output="m3")
