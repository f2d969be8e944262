"""The only room that knows transformers and peft: loading, the packed forward, images, sampling."""

from sightline.models.torchvision import refuse_unfit_torchvision

refuse_unfit_torchvision()  # transformers imports it with every image processor, and fails far from the cause
