"""The only room that knows transformers and peft: loading, the packed forward, images, sampling."""
