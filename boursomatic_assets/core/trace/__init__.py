"""From a recommendation back to its bars: each step computed again and compared.

What is compared is fetched by `services.tracing`.
"""
