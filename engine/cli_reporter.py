"""The command line's side of the language model: options, `iqagpt chat`, `iqagpt cache`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import ChatError, ImageFileError, IqaError, ReporterError
from .offline import forbid_network
from .reporting.options import TOGETHER, ReporterOptions, default_cache

if TYPE_CHECKING:
    from .assessment import Assessment
    from .engine import Engine
    from .reporting.chat import Chat
    from .reporting.writer import ReporterStats

ANSWERED, NOT_ANSWERED = 0, 1


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that say which model, and how."""
    group = parser.add_argument_group(
        "language model",
        "Only text made from captions and scores is sent. The key comes from OPENAI_API_KEY.",
    )
    group.add_argument("--model", metavar="ID", help="model id at the server")
    group.add_argument("--base-url", metavar="URL", help="any OpenAI-compatible server")
    group.add_argument("--proxy", metavar="URL", help="an HTTP proxy on the way there")
    group.add_argument("--gguf", metavar="FILE", type=Path, help="a model file to serve here")
    group.add_argument("--timeout", type=float, metavar="S", help="seconds for one call")
    group.add_argument("--deadline", type=float, metavar="S", help="seconds for a whole batch")
    group.add_argument("--prices", type=float, nargs=2, metavar=("IN", "OUT"), help="per Mtoken")
    group.add_argument("--cache", metavar="FILE", type=Path, help="reply cache (the user's)")
    group.add_argument("--no-cache", action="store_true", help="neither read nor keep replies")
    group.add_argument("--offline", action="store_true", help="any use of the network is an error")


def options(args: argparse.Namespace, *, required: bool) -> ReporterOptions:
    """The reporter's options as the command line gives them."""
    given = {
        name: value
        for name in ("model", "base_url", "proxy", "gguf", "timeout", "deadline")
        if (value := getattr(args, name)) is not None
    }
    chosen = ReporterOptions(required=required, **given)
    if args.prices:
        chosen = replace(chosen, prices=tuple(args.prices))
    if args.cache or args.no_cache:
        chosen = replace(chosen, cache=None if args.no_cache else args.cache)
    return chosen


def network(args: argparse.Namespace) -> AbstractContextManager[None]:
    """Forbids the network where `--offline` was given."""
    return forbid_network() if args.offline else nullcontext()


def summary(stats: ReporterStats) -> str:
    """What the reporter did, in one line."""
    cost = "" if stats.cost is None else f", cost {stats.cost:.4f}"
    return (
        f"reports: {stats.slices - stats.fallbacks} by the model, {stats.fallbacks} by the "
        f"template; {stats.calls} calls, cache hits {stats.hit_rate:.0%}, "
        f"{stats.prompt_tokens} + {stats.completion_tokens} tokens{cost}"
    )


def add_chat(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """`iqagpt chat PATH…`."""
    chat = commands.add_parser(
        "chat",
        help="talk about the quality of slices",
        description="Assess slices, then answer questions about them; a question a line.",
    )
    chat.add_argument("paths", nargs="*", metavar="PATH", help="file or folder")
    chat.add_argument("--bundle", metavar="DIR", help="bundle folder (default: the one inside)")
    chat.add_argument("--device", default="cpu", help="where to run (cpu)")
    chat.add_argument("--save", metavar="FILE", type=Path, help="write the conversation as JSON")
    chat.add_argument("--resume", metavar="FILE", type=Path, help="go on with a saved one")
    add_options(chat)
    chat.set_defaults(run=_chat)


def add_cache(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """`iqagpt cache show|clear`."""
    parser = commands.add_parser("cache", help="look at the cache of replies, or empty it")
    parser.add_argument("action", choices=("show", "clear"))
    parser.add_argument("--cache", metavar="FILE", type=Path, help="cache file (the user's)")
    parser.set_defaults(run=_cache)


def _chat(args: argparse.Namespace) -> int:
    from .engine import Engine

    if bool(args.paths) == bool(args.resume):
        raise ChatError("name slices to talk about, or a saved conversation with --resume")
    with (
        network(args),
        Engine.load(
            args.bundle, device=args.device, reporter=options(args, required=False)
        ) as engine,
    ):
        chat = engine.resume_chat(args.resume) if args.resume else _about(engine, args.paths)
        return _talk(chat, args.save)


def _about(engine: Engine, paths: list[str]) -> Chat:
    """Assess, say which number is which file, and start."""
    from .dicom.series import SliceSource
    from .output.rows import assessed

    found: list[Assessment | IqaError] = []
    for row, item in assessed(engine, SliceSource(paths), TOGETHER):
        if isinstance(item, ImageFileError):
            sys.stderr.write(f"not assessed: {item}\n")
            continue
        sys.stdout.write(f"slice {len(found)}: {row.name}: {_short(row.result)}\n")
        found.append(row.result)
    if not found:
        raise ImageFileError(f"no slices in {', '.join(paths)}")
    return engine.chat(found)


def _short(result: Assessment | IqaError) -> str:
    return str(result) if isinstance(result, IqaError) else result.caption


def _talk(chat: Chat, save: Path | None) -> int:
    """Answer question after question; a failed one is said and leaves the conversation open."""
    code = ANSWERED
    for question in _questions():
        try:
            for piece in chat.say(question):
                sys.stdout.write(piece)
                sys.stdout.flush()
            code = ANSWERED
        except (ReporterError, ChatError) as error:
            sys.stderr.write(f"no answer: {error}")
            code = NOT_ANSWERED
        sys.stdout.write("\n")
        if save is not None:
            chat.save(save)
    return code


def _questions() -> Iterator[str]:
    """Lines typed or piped in, until the end of input."""
    while True:
        try:
            line = input("> " if sys.stdin.isatty() else "")
        except EOFError:
            return
        if line.strip():
            yield line


def _cache(args: argparse.Namespace) -> int:
    from .reporting.cache import ReplyCache

    path = args.cache or default_cache()
    if not path.exists():
        sys.stdout.write(f"{path}: no cache yet\n")
        return ANSWERED
    cache = ReplyCache(path, limit=sys.maxsize)
    try:
        if args.action == "clear":
            sys.stdout.write(f"{path}: {cache.clear()} replies removed\n")
        else:
            count, size = cache.size()
            sys.stdout.write(f"{path}: {count} replies, {size / 1e6:.2f} MB\n")
    finally:
        cache.close()
    return ANSWERED
