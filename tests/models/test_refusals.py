import copy

import pytest
from transformers import CONFIG_MAPPING, Lfm2VlConfig

from sightline.models.refusals import refuse_model
from tests.families import family_loaded

REFUSED = {
    "qwen3_5": "has recurrent layers .* use a model whose layers all attend",
    "qwen3_vl_moe": "is a mixture of experts .* use the dense model of the same family",
    "gemma3n": "layers of type 'sliding_attention', which the shared-prompt forward does not cover",
}


@pytest.mark.parametrize("kind", REFUSED)
def test_recurrent_layers_and_experts_are_refused_with_a_sentence(kind: str):
    with pytest.raises(ValueError, match=REFUSED[kind]):
        refuse_model(CONFIG_MAPPING[kind]())


def test_a_model_with_convolutions_is_refused():
    with pytest.raises(ValueError, match="has recurrent layers"):
        refuse_model(Lfm2VlConfig(text_config={"model_type": "lfm2", "full_attn_idxs": [1], "num_hidden_layers": 2}))


def test_bounds_on_scores_and_logits_are_refused():
    config = family_loaded("gemma3").model.config
    for name in ("attn_logit_softcapping", "final_logit_softcapping"):
        odd = copy.deepcopy(config)
        setattr(odd.text_config, name, 30.0)
        with pytest.raises(ValueError, match=f"sets {name} to 30.0"):
            refuse_model(odd)
