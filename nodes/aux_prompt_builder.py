"""AuxPromptBuilder: one prompt with V* becomes a positive conditioning that carries its auxiliary prompt."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..dci_core.prompt.pairs import AUTO
from .host.node_text import announce, text_of_node
from .host.sampling.conditioning import build_conditioning
from .sockets import CATEGORY


class AuxPromptBuilder(io.ComfyNode):
    """Encode P and P_a together."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AuxPromptBuilder",
            display_name="Aux Prompt Builder",
            category=CATEGORY,
            description="Encodes a prompt with V* and, along with it, the same prompt with a common noun instead of your "
            "subject. Connect the result as positive to DCISampler, or to any sampler after Apply DCI.",
            search_aliases=["auxiliary prompt", "concept prompt", "V*"],
            inputs=[
                io.Clip.Input("clip", tooltip="The CLIP that Apply Concept returns."),
                io.String.Input(
                    "prompt",
                    multiline=True,
                    dynamic_prompts=True,
                    default="a V* cat in times square",
                    tooltip="Your prompt. Write V* and its class noun where your subject belongs: they were trained together. "
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
                    tooltip="Only for embedding:name in the prompt instead of V*, where the file is no concept file: the plain word for "
                    "what it shows. Empty: the concept's own.",
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
    ) -> io.NodeOutput:
        built = build_conditioning(clip, prompt, auxiliary_noun, entire_prompt, class_noun)
        # always something, in place of what was said of the last prompt
        said = [*built.remarks(), f"auxiliary prompt: {built.auxiliary_text}"]
        announce("; ".join(said), text_of_node(cls.hidden.unique_id))
        return io.NodeOutput(built.conditioning, built.concept_text, built.auxiliary_text)
