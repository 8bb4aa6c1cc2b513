"""The Seamless Rollout Engine (report section 3.4): pure asyncio, knows neither Ray nor vLLM nor torch."""
