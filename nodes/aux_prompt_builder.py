"""AuxPromptBuilder: one prompt with a subject becomes a positive conditioning that carries its auxiliary prompt."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..dci_core.prompt.pairs import AUTO
from .host.node_text import announce, text_of_node
from .host.sampling.conditioning import build_conditioning
from .sockets import SAMPLE, found_by


class AuxPromptBuilder(io.ComfyNode):
    """Encode P and P_a together."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AuxPromptBuilder",
            display_name="Aux Prompt Builder",
            category=SAMPLE,
            description="Encodes a prompt and, along with it, the same prompt with a common noun instead of your subject: a "
            "concept of ours (V*), or whatever a LoRA, an embedding or a checkpoint has learned. Connect the result as "
            "positive to DCISampler, or to any sampler after Apply DCI.",
            search_aliases=found_by("auxiliary prompt", "concept prompt", "V*", "LoRA", "DreamBooth", "trigger word"),
            inputs=[
                io.Clip.Input(
                    "clip", tooltip="The CLIP that Apply Concept returns; with subject any, also after LoraLoader."
                ),
                io.String.Input(
                    "prompt",
                    multiline=True,
                    dynamic_prompts=True,
                    default="a V* cat in times square",
                    tooltip="Your prompt. Write V* and its class noun where your subject belongs: they were trained together; or, with "
                    "subject, the words of your LoRA. "
                    "A noun that you leave out is added, and concept_text shows it. Emphasis such as (V* cat:1.2) works. With a "
                    "checkpoint that was saved behind Apply Concept write embedding:my_concept instead of V*.",
                ),
                io.String.Input(
                    "auxiliary_noun",
                    default=AUTO,
                    tooltip="A common noun to take your subject's place in the auxiliary prompt: anything but the class "
                    "noun, best something likely in this scene. auto: the common noun that the text encoder finds likeliest in it. For several concepts "
                    "one for each, with commas between them.",
                ),
                io.Boolean.Input(
                    "entire_prompt",
                    default=True,
                    tooltip="On: both branches see the whole scene. Off: the paper's ablation, where each branch sees "
                    "only its own words.",
                    optional=True,
                    advanced=True,
                ),
                io.String.Input(
                    "class_noun",
                    default="",
                    optional=True,
                    advanced=True,
                    tooltip="The plain word for what your subject is, where neither the concept nor subject says it, so that no "
                    "auxiliary noun is that word. Empty: the concept's own, or the last word of subject.",
                ),
                io.String.Input(
                    "subject",
                    default="",
                    optional=True,
                    tooltip="For a LoRA, an embedding or a checkpoint that you have: the words of your prompt that name your subject, as you "
                    "write them there, such as sks dog, embedding:my-cat cat, or tags with commas: miku, 1girl. Empty: the V* of Apply "
                    "Concept.",
                ),
                io.Float.Input(
                    "auxiliary_lora_strength",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    optional=True,
                    advanced=True,
                    tooltip="The share of its strength that every LoRA has in the auxiliary branch. Lower it if the scene looks like your "
                    "pictures even there; the weights are then exchanged at each active step, which costs time. 1: the same weights "
                    "in both branches, as in the paper.",
                ),
            ],
            outputs=[
                io.Conditioning.Output(display_name="conditioning", tooltip="Positive conditioning for the sampler."),
                io.String.Output(
                    display_name="concept_text", tooltip="The prompt of the concept branch, as it was read."
                ),
                io.String.Output(display_name="auxiliary_text", tooltip="The prompt of the auxiliary branch."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        clip: Any,
        prompt: str,
        auxiliary_noun: str,
        entire_prompt: bool = True,
        class_noun: str = "",
        subject: str = "",
        auxiliary_lora_strength: float = 1.0,
    ) -> io.NodeOutput:
        built = build_conditioning(
            clip, prompt, auxiliary_noun, entire_prompt, class_noun, subject, auxiliary_lora_strength
        )
        # always something, in place of what was said of the last prompt
        said = [*built.remarks(), f"auxiliary prompt: {built.auxiliary_text}"]
        announce("; ".join(said), text_of_node(cls.hidden.unique_id))
        return io.NodeOutput(built.conditioning, built.concept_text, built.auxiliary_text)
