"""Placeholders that are common words: refused where one is chosen, told where a file has one."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from comfyui_dci.dci_core.errors import UserInputError
from comfyui_dci.nodes import concepts as concept_nodes
from comfyui_dci.nodes.aux_prompt_builder import AuxPromptBuilder
from comfyui_dci.nodes.concepts import ApplyConcept
from node_runs import run, trained
from scenes import scene


def test_the_trainer_and_a_new_name_refuse_a_common_word() -> None:
    with pytest.raises(UserInputError, match="The placeholder 'dog' is a common word.*such as \"sks\""):
        trained(class_noun="cat", placeholder="dog")
    s = scene()
    with pytest.raises(UserInputError, match="The placeholder 'a' is a common word"):
        run(ApplyConcept, model=s.base.model, clip=s.base.clip, concept=s.concept, placeholder="a")


def test_a_concept_file_with_a_common_word_is_applied_with_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    s, told = scene(), []
    monkeypatch.setattr(concept_nodes, "text_of_node", lambda node: told.append)
    old = replace(s.concept, info=replace(s.concept.info, placeholder="dog", class_noun="a cat"))
    _, clip = run(ApplyConcept, model=s.base.model, clip=s.base.clip, concept=old)
    assert "The placeholder 'dog' is a common word" in "\n".join(told)
    built = run(AuxPromptBuilder, clip=clip, prompt="dog in snow", auxiliary_noun="horse")
    assert built[1:] == ("dog a cat in snow", "horse in snow")
    assert isinstance(clip.tokenize("dog")["l"][0][1][0], torch.Tensor)
