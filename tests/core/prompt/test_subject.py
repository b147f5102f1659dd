"""A subject named by any words: where it stands in a prompt, and the prompt with another noun there."""

from __future__ import annotations

import re

import pytest
from comfyui_dci.dci_core.errors import UserInputError
from comfyui_dci.dci_core.prompt.marks import marked_word
from comfyui_dci.dci_core.prompt.pairs import PromptPair
from comfyui_dci.dci_core.prompt.subject import Subject, read_subject
from comfyui_dci.dci_core.prompt.subject_prompt import NOUN_PLACE, SubjectPrompt


def spoken(subject: str, prompt: str, class_noun: str = "") -> SubjectPrompt:
    return SubjectPrompt(prompt, read_subject(subject, class_noun))


@pytest.mark.parametrize(
    ("text", "parts", "class_noun"),
    [
        ("sks dog", ("sks dog",), "dog"),
        (" a  sks\n dog. ", ("sks dog",), "dog"),
        ("(sks dog:1.3)", ("sks dog",), "dog"),
        ("((sks) dog)", ("sks dog",), "dog"),
        ("zwx plush toy", ("zwx plush toy",), "toy"),
        ("embedding:my-cat cat", ("embedding:my-cat cat",), "cat"),
        ("embedding:my-cat", ("embedding:my-cat",), ""),
        ("a embedding:my-cat", ("embedding:my-cat",), ""),
        ("miku, 1girl", ("miku", "1girl"), "girl"),
        ("1girl, miku,", ("1girl", "miku"), "girl"),
        ("miku", ("miku",), ""),
        ("dogs", ("dog",), "dog"),
        ("(miku \\(vocaloid\\):1.1)", ("miku \\(vocaloid\\)",), "vocaloid"),
        ("sks dog, Sks Dog", ("sks dog",), "dog"),
        ("sks dogs", ("sks dog",), "dog"),
        ("sks men", ("sks man",), "man"),
        ("sks dog:1.2", ("sks dog",), "dog"),
        ("(embedding:my-cat:1.2", ("embedding:my-cat",), ""),
        ("embedding:123", ("embedding:123",), ""),
        ("dog 2:1", ("dog 2:1",), ""),
        ("c.c., 1girl", ("c.c.", "1girl"), "girl"),
        ("love live!", ("love live!",), "live"),
        ("1girl, hatsune miku", ("1girl", "hatsune miku"), "girl"),
        ("hatsune miku", ("hatsune miku",), "miku"),
    ],
)
def test_a_subject_is_read_as_phrases_and_a_class_noun(text: str, parts: tuple[str, ...], class_noun: str) -> None:
    assert read_subject(text) == Subject(parts, class_noun)


def test_the_class_noun_that_is_given_wins() -> None:
    assert read_subject("ohwx", "the man.") == Subject(("ohwx",), "man")
    with pytest.raises(UserInputError, match="class noun 'V\\*' cannot be used"):
        read_subject("ohwx", "V*")


@pytest.mark.parametrize("text", [",", " ( :1.2)", "the", "..."])
def test_a_subject_without_words_is_refused(text: str) -> None:
    with pytest.raises(UserInputError, match='has no words. Write the words of your prompt.*"sks dog"'):
        read_subject(text)


@pytest.mark.parametrize(
    ("subject", "prompt", "words", "auxiliary"),
    [
        ("sks dog", "a sks dog on grass", "sks dog", "a cat on grass"),
        ("sks dog", "a SKS Dog, and sks dog's hat", "SKS Dog sks dog", "a cat, and cat's hat"),
        ("sks dog", "two sks dogs", "sks dogs", "two cats"),
        ("sks dog", "a sks red dog", "sks dog", "a red cat"),
        ("sks dog", "a (sks dog:1.2)", "sks dog", "a (cat:1.2)"),
        ("sks dog", "a sks (dog:1.2)", "sks dog", "a (cat:1.2)"),
        ("sks dog", "a (sks:1.3) dog", "sks dog", "a (cat:1.3)"),
        ("sks dog", "((sks) (big dog:1.2))", "sks dog", "((big cat:1.2))"),
        ("sks dog", "sks\ndog", "sks dog", "cat"),
        ("sks dog", "sks dogfish, sks on dog, sks dog", "sks dog", "sks dogfish, sks on dog, cat"),
        ("zwx plush toy", "zwx plush toy, zwx toy", "zwx plush toy", "cat, zwx toy"),
        (
            "embedding:c cat",
            "(embedding:c:1.2) cat, embedding:c2 cat",
            "embedding:c cat",
            "(dog:1.2), embedding:c2 cat",
        ),
        ("embedding:c", "a embedding:c, embedding:C", "embedding:c", "a cat, embedding:C"),
        ("embedding:c", "photo,embedding:c embedding:c", "embedding:c", "photo,embedding:c cat"),
        ("sks", "embedding:sks and sks", "sks", "embedding:sks and cat"),
        ("miku, 1girl", "art, miku, 1girl, park", "miku 1girl", "art, cat, park"),
        ("miku, 1girl", "1girl,miku", "1girl miku", "cat"),
        ("miku, 1girl", "(miku, 1girl:1.2), park", "miku 1girl", "(cat:1.2), park"),
        ("miku, 1girl", "(miku:1.2), (1girl:1.1), park", "miku 1girl", "(cat:1.2), park"),
        ("miku, 1girl", "1girl, solo, miku, park", "1girl miku", "cat, solo, cat, park"),
        ("miku, 1girl", "miku, miku, 1girl", "miku miku 1girl", "cat, cat"),
        ("dog", "two dogs and a dog", "dogs dog", "two cats and a cat"),
        ("sks dog, dog", "a sks dog, a dog", "sks dog dog", "a cat, a cat"),
        ("sks dog", "(red sks:1.2) fat dog", "sks dog", "(red:1.2) fat cat"),
        ("miku \\(vocaloid\\)", "(miku \\(vocaloid\\):1.2), sky", "miku \\(vocaloid\\)", "(cat:1.2), sky"),
        ("sks dogs", "a sks dog, two sks dogs", "sks dog sks dogs", "a cat, two cats"),
        ("c.c.", "1girl, c.c., code geass", "c.c.", "1girl, cat, code geass"),
        ("love live!", "love live! and love live", "love live!", "cat and love live"),
        ("kamado nezuko, nezuko", "kamado nezuko, sky", "kamado nezuko", "cat, sky"),
        ("1.5x-lens", "a 1.5x-lens (1.5x-lens:0.8)", "1.5x-lens 1.5x-lens", "a cat (cat:0.8)"),
    ],
)
def test_the_words_are_found_and_the_noun_takes_their_place(
    subject: str, prompt: str, words: str, auxiliary: str
) -> None:
    found = spoken(subject, prompt)
    assert " ".join(prompt[slice(*span)] for span in found.words) == words
    noun = "dog" if "dog" in auxiliary and subject.endswith("cat") else "cat"
    assert found.pair(noun).auxiliary == auxiliary
    assert found.pair(noun).concept == prompt


@pytest.mark.parametrize(
    ("subject", "class_noun", "prompt", "words", "auxiliary"),
    [
        ("sks", "dog", "a sks dog in snow", "sks dog", "a cat in snow"),
        ("sks", "dog", "two sks red dogs, sks", "sks dogs sks", "two red cats, cat"),
        ("embedding:c", "mug", "a (embedding:c:1.2) mug", "embedding:c mug", "a (cat:1.2)"),
        ("sks", "plush toy", "a sks plush (toy:1.2)", "sks plush toy", "a (cat:1.2)"),
    ],
)
def test_the_class_noun_that_is_given_goes_with_one_word(
    subject: str, class_noun: str, prompt: str, words: str, auxiliary: str
) -> None:
    found = spoken(subject, prompt, class_noun)
    assert " ".join(prompt[slice(*span)] for span in found.words) == words
    assert found.pair("cat").auxiliary == auxiliary
    assert found.warnings("cat") == []


def test_a_concepts_name_alone_is_completed_with_its_noun() -> None:
    names = [("V*", "cat"), ("embedding:c", "mug")]
    assert read_subject("v*, embedding:c, sky").completed(names) == Subject(("v* cat", "embedding:c mug", "sky"), "sky")
    assert read_subject("V* cat").completed(names) == Subject(("V* cat",), "cat")


def test_each_occurrence_is_marked_in_the_auxiliary_prompt() -> None:
    pair = spoken("miku, 1girl", "1girl, miku, two 1girls").pair("dog")
    assert pair == PromptPair("1girl, miku, two 1girls", "dog, two dogs", f"{NOUN_PLACE}, two {NOUN_PLACE}\u02e2")
    assert pair.marked_auxiliary({NOUN_PLACE: "dog"}) == f"{marked_word('dog')}, two {marked_word('dogs')}"


@pytest.mark.parametrize(
    ("subject", "prompt"),
    [
        ("sks dog", "a dog on grass"),
        ("sks dog", "sks, dog"),
        ("sks dog", "sks near a dog"),
        ("sks", "tasks"),
        ("embedding:c", "embedding:C"),
        ("miku", "初音miku"),
    ],
)
def test_a_prompt_without_the_subject_is_refused(subject: str, prompt: str) -> None:
    with pytest.raises(UserInputError, match="does not contain the subject.*Write the same words in both, for example"):
        spoken(subject, prompt)


@pytest.mark.parametrize(
    ("subject", "prompt", "advice"),
    [
        ("初音ミク", "初音ミクの写真", "a part of a longer word: put spaces around it"),
        (
            "saber (fate)",
            "1girl, saber \\(fate\\)",
            r"Copy it from the prompt: a bracket that the prompt writes as \\\(",
        ),
        ("my-cat", "photo of embedding:my-cat", 'named with its beginning in subject, too: "embedding:my-cat"'),
        ("embedding:c", "a cat,embedding:c", "An embedding has a space or a bracket in front of it"),
        ("sks dog", "a cat", r"behind the first one\.$"),
    ],
)
def test_the_error_says_why_words_that_stand_there_are_not_read(subject: str, prompt: str, advice: str) -> None:
    with pytest.raises(UserInputError, match=advice):
        spoken(subject, prompt)


def test_without_the_entire_prompt_each_branch_has_its_own_words() -> None:
    pair = spoken("sks dog", "a (sks dog:1.2) carved from ice").pair("", entire_prompt=False)
    assert pair == PromptPair("sks dog", "a carved from ice", "a carved from ice")
    with pytest.raises(UserInputError, match='Nothing is left.*without "sks dog".*turn entire_prompt on'):
        spoken("sks dog", "sks dog").pair("cat", entire_prompt=False)


@pytest.mark.parametrize(
    ("subject", "noun", "message"),
    [
        ("sks dog", "Dog", "own class noun"),
        ("sks dog", "", "is empty"),
        ("sks dog", "sks dog", "plain words"),
        ("sks dog", "sks cat", "plain words without brackets, commas or sks"),
        ("miku, 1girl", "miku", "plain words"),
        ("miku, 1girl", "girl", "own class noun"),
        ("sks dog, zwx cat", "dog", "own class noun"),
        ("sks men", "man", "own class noun"),
    ],
)
def test_an_auxiliary_noun_that_says_the_subject_is_refused(subject: str, noun: str, message: str) -> None:
    with pytest.raises(UserInputError, match=message):
        spoken(subject, read_subject(subject).parts[0]).pair(noun)


@pytest.mark.parametrize(
    ("subject", "prompt", "noun", "warning"),
    [
        ("sks dog", "a sks dog in snow", "cat", None),
        ("sks dog", "a sks dog, sks", "cat", 'left in the auxiliary prompt as context.*: "sks"; .*write "sks dog"'),
        ("red dog", "a red dog and a red car", "cat", None),
        ("sks dog", "a sks dog and a dog", "cat", 'left in the auxiliary prompt as context.*: "dog"; '),
        ("sks dog", "a sks dog", "toy dog", 'the auxiliary noun says "dog".*choose another, or auto'),
        ("miku, 1girl", "miku, park", "cat", '"1girl" of the subject does not stand in the prompt'),
        ("miku, 1girl", "miku, sky, 1girl", "cat", "parts of the subject stand apart.*write them side by side"),
        ("miku, 1girl", "miku, 1girl, sky, 1girl, miku", "cat", None),
        ("ohwx man, ohwx", "ohwx man and ohwx", "cat", "parts of the subject stand apart"),
        ("sks dog", "a sks dog <lora:x:1>", "cat", '"<lora:x:1>" loads nothing.*load the file by LoraLoader'),
        ("ohwx", "photo of ohwx dog in snow", "cat", 'write "ohwx dog" in subject'),
        ("dog, dogs", "a dog, two dogs", "cat", None),
        ("sks dog, zwx cat", "zwx cat, sks dog, a dog", "bird", '"dog"; if your subject is meant'),
        (
            "hatsune miku",
            "hatsune miku, city",
            "cat",
            'class noun "miku", the last word of subject.*fill in class_noun',
        ),
        ("miku", "miku in a park", "cat", 'class_noun is empty, and "miku" does not say what it is'),
    ],
)
def test_what_may_be_meant_otherwise_is_told(subject: str, prompt: str, noun: str, warning: str | None) -> None:
    warnings = spoken(subject, prompt).warnings(noun)
    if warning is None:
        assert warnings == []
    else:
        (told,) = warnings
        assert re.search(warning, told)
