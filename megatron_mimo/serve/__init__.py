"""An exported model behind vLLM, in process or as an OpenAI-compatible server, drafting with its MTP layers."""
