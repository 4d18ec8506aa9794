"""How servers are reached again when what was done through them has to be undone: kept with the step, found by it."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from soothsayer_mcp.adapters.config import Config, Remote, ServerSpec, load, server_identity
from soothsayer_mcp.adapters.launch import Launch
from soothsayer_mcp.adapters.policy_files.problems import LoadErrors
from soothsayer_mcp.model.json import Json
from soothsayer_mcp.undo.plan import Past


def reach_of(config: Config) -> dict[str, Json]:
    """What is kept of each server: its identity, and the configuration that defines it, else its command line.

    No value of a variable or a header is in it; a server from the command line that needs headers has none.
    """
    found: dict[str, Json] = {}
    for spec in config.servers:
        form: dict[str, Json] = {"identity": server_identity(spec).digest, "declared": spec.declared}
        match spec.reach:
            case Remote() as remote:
                form["url"] = remote.url
                whole = not remote.headers
            case Launch() as launch:
                form["argv"] = [*launch.argv]
                form["pass_env"] = [*launch.pass_env]
                form["all_env"] = launch.unsafe_pass_all_env
                whole = not launch.env
        if config.file is not None and config.servers_of_file:
            found[spec.name] = {key: value for key, value in form.items() if key in {"identity", "url"}} | {
                "config": str(config.file)
            }
        elif whole:
            found[spec.name] = form
    return found


def servers_of(pasts: Iterable[Past], given: Path | None) -> tuple[tuple[ServerSpec, ...], dict[str, str]]:
    """The servers that are called to undo these steps, or asked about them; and why those are not that cannot be."""
    forms: dict[str, Mapping[str, Json]] = {}
    for past in pasts:
        reach: dict[str, Json] = {}
        if past.asks is not None:
            reach |= past.asks.reach
        if past.kept is not None and past.has_effect:
            reach |= past.kept.before.reach
        forms |= {name: form for name, form in reach.items() if isinstance(form, Mapping)}
    found: list[ServerSpec] = []
    without: dict[str, str] = {}
    for name, form in sorted(forms.items()):
        spec = _spec(name, form, given)
        if isinstance(spec, ServerSpec) and server_identity(spec).digest != form.get("identity"):
            spec = f"{name} is another server now than the one that was called"
        if isinstance(spec, ServerSpec):
            found.append(spec)
        else:
            without[name] = spec
    return tuple(found), without


def _spec(name: str, form: Mapping[str, Json], given: Path | None) -> ServerSpec | str:
    file = form.get("config")
    if given is not None or isinstance(file, str):
        path = given or Path(str(file))
        try:
            config = load(path)
        except LoadErrors as errors:
            return f"{name} is configured in {path}, which does not load: {errors.problems[0].text}"
        return next((one for one in config.servers if one.name == name), f"{name} is not configured in {path}")
    url, argv, passed = form.get("url"), form.get("argv"), form.get("pass_env")
    declared = form.get("declared") is True
    if isinstance(url, str):
        return ServerSpec(name=name, declared=declared, reach=Remote(name=name, url=url))
    if not isinstance(argv, list) or not isinstance(passed, list):
        return f"how {name} is started is not on record"
    reach = Launch(
        name=name,
        argv=tuple(map(str, argv)),
        pass_env=tuple(map(str, passed)),
        unsafe_pass_all_env=form.get("all_env") is True,
    )
    return ServerSpec(name=name, declared=declared, reach=reach)
