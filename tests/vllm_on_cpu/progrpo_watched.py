"""`progrpo` as tests need it: `python progrpo_watched.py train ...`. Environment variables ask for:

RECORD=FILE        one JSON line a completion goes to the file, as the reward function sees it
FORGET_TO_SYNC=1   vLLM gets no new weights: the control of the tests that say that they arrive
OVER_GLOO=1        weights go to a server over gloo, not over NCCL, which needs a GPU
"""

import functools
import json
import os
from pathlib import Path

from trl.generation import vllm_client
from trl.generation.vllm_generation import VLLMGeneration

from progrpo_cli.main import run
from progrpo_cli.training import run as training

make_rewards = training.reward_functions


def recording_rewards(*args):
    correctness, *others = make_rewards(*args)

    @functools.wraps(correctness)  # TRL calls a reward by the function's name
    def recorded(prompts, completion_ids, **columns):
        with Path(os.environ["RECORD"]).open("a") as file:
            for prompt, ids in zip(prompts, completion_ids, strict=True):
                file.write(json.dumps({"prompt": prompt, "completion_ids": list(ids)}) + "\n")
        return correctness(completion_ids=completion_ids, **columns)

    return [recorded, *others]


if "RECORD" in os.environ:
    training.reward_functions = recording_rewards
if "FORGET_TO_SYNC" in os.environ:
    VLLMGeneration.sync_weights = lambda self: None
if "OVER_GLOO" in os.environ:
    import gloo_engine

    vllm_client.VLLMClient.init_communicator = gloo_engine.init_communicator
    vllm_client.packed_nccl_broadcast_producer = gloo_engine.send
run()
