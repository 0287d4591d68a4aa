"""A server made with fastmcp: fast.py http|sse PORT. Its lists come in pages of two."""

import sys

from fastmcp import Context, FastMCP

mcp = FastMCP("fast", instructions="A server made with fastmcp.", version="1.2.3", list_page_size=2)


@mcp.tool(annotations={"readOnlyHint": True})
def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


@mcp.tool(annotations={"readOnlyHint": True}, tags={"weather"})
def forecast(city: str, days: int = 3) -> dict:
    """Tells the weather of some days."""
    return {"city": city, "days": [{"day": day, "celsius": 20.5 + day} for day in range(days)]}


@mcp.tool
async def steps(context: Context) -> str:
    """Tells its progress and what it does."""
    for step in range(3):
        await context.report_progress(step, 3)
        await context.info(f"step {step}")
    return "done"


@mcp.tool
async def ask_name(context: Context) -> str:
    """Asks the user for a name."""
    answer = await context.elicit("What is your name?", response_type=str)
    return f"{answer.action}: {getattr(answer, 'data', None)}"


@mcp.resource("fast://motto", mime_type="text/plain")
def motto() -> str:
    """What this server believes in."""
    return "faster"


@mcp.resource("fast://numbers", mime_type="application/json")
def numbers() -> str:
    """Some numbers."""
    return "[1, 2, 3]"


@mcp.resource("fast://logo", mime_type="image/png")
def logo() -> bytes:
    """Some bytes."""
    return bytes(range(256))


@mcp.resource("fast://square/{number}")
def square(number: int) -> str:
    """A number times itself."""
    return str(number * number)


@mcp.prompt
def review(code: str, style: str = "strict") -> str:
    """Asks for a review."""
    return f"Review this code ({style}): {code}"


if __name__ == "__main__":
    mcp.run(transport=sys.argv[1], host="127.0.0.1", port=int(sys.argv[2]), show_banner=False, log_level="warning")
