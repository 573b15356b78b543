"""Settings of the real model with known truth: its own conversations and the adapter they train."""

from pydantic import Field, PositiveInt

from alignment_extraction.settings.controlled import Repetitions, StageSettings


class AdapterSettings(StageSettings):
    """A model's own conversations, and a LoRA adapter of it trained on half of them."""

    base: str = Field("smollm2", description="the model in `models` that writes them and is tuned")
    samples: PositiveInt = Field(2250, description="conversations drawn from it")
    min_question_tokens: PositiveInt = Field(8, description="a shorter question is left out")
    max_question_tokens: PositiveInt = Field(40, description="a longer question is left out")
    max_answer_tokens: PositiveInt = Field(32, description="an answer is cut here, in tokens")
    repetitions: Repetitions = Field({1: 320, 2: 120, 4: 80, 8: 40, 16: 24, 32: 16})
    """repetitions: how many conversations the training shows so often; each has a twin"""
    rank: PositiveInt = Field(16, description="of the adapter's matrices, one pair a linear layer")
    alpha: PositiveInt = Field(32, description="the adapter's change is scaled by alpha / rank")
    learning_rate: float = Field(1e-3, gt=0, description="peak of the schedule")
    batch_size: PositiveInt = Field(8, description="conversations a step")
    checkpoint_steps: PositiveInt = Field(50, description="steps between two checkpoints")
