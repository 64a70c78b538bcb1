"""`segrobust completion`: a script that completes commands, options and values in a shell."""

import sys
from collections.abc import Iterator, Sequence
from typing import Final

from segrobust.cli.commands import COMMANDS
from segrobust.cli.interfaces import INTERFACES
from segrobust.cli.options import Option, is_path
from segrobust.cli.parsers import parse
from segrobust.shipped import PREFIX, shipped_files

_ZSH: Final = "autoload -U +X compinit && compinit\nautoload -U +X bashcompinit && bashcompinit\n"

_SCRIPT: Final = """\
_segrobust() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} place=$((COMP_CWORD - 1)) command=${{COMP_WORDS[1]}} words= files=
    # bash splits words at : and =
    if [[ $current == : ]]; then
        current=${{COMP_WORDS[place]}}: place=$((place - 1))
    elif [[ ${{COMP_WORDS[place]}} == : ]]; then
        current=${{COMP_WORDS[place - 1]}}:$current place=$((place - 2))
    fi
    if [[ $current == "=" ]]; then
        current=
    elif [[ ${{COMP_WORDS[place]}} == "=" ]]; then
        place=$((place - 1))
    fi
    local previous=${{COMP_WORDS[place]//-/_}}
    previous=--${{previous#__}}
    case $command in
        {nested}) [[ $COMP_CWORD -gt 2 ]] && command="$command ${{COMP_WORDS[2]}}" ;;
    esac
    case "$command $previous" in
{values}
        *)
            if [[ $COMP_CWORD -eq 1 ]]; then
                words="{commands}"
            else
                case $command in
{options}
                esac
            fi ;;
    esac
    COMPREPLY=($(compgen -W "$words" -- "$current"))
    if [[ -n $files ]]; then
        COMPREPLY+=($(compgen -f -- "$current"))
    fi
    if [[ $current == *:* ]]; then
        COMPREPLY=("${{COMPREPLY[@]#"${{current%:*}}":}}")
    fi
}}
complete -o filenames -F _segrobust segrobust
"""


def completion_command(arguments: Sequence[str]) -> None:
    """Entry point of `segrobust completion`.

    Args:
        arguments: what follows `completion` on the command line.
    """
    shell = parse("completion", arguments).shell
    sys.stdout.write((_ZSH if shell == "zsh" else "") + completion_script())


def completion_script() -> str:
    """The script for bash, which zsh runs too."""
    nested = sorted({name.split()[0] for name in INTERFACES if " " in name})
    return _SCRIPT.format(
        commands=" ".join((*COMMANDS, "--help", "--version")),
        nested=" | ".join(nested),
        values="\n".join(_values()),
        options="\n".join(_options(nested)),
    )


def _values() -> Iterator[str]:
    """For each option with values that can be listed, a case that lists them."""
    for command, interface in INTERFACES.items():
        for option in interface:
            words = _choices(option)
            if words or is_path(option):
                files = " files=yes" if is_path(option) else ""
                yield f"        '{command} --{option.name}') words=\"{' '.join(words)}\"{files} ;;"


def _choices(option: Option) -> tuple[str, ...]:
    if option.name == "config":
        return tuple(f"{PREFIX}{name}" for name in shipped_files() if name.endswith(".yaml"))
    return option.choices


def _options(nested: Sequence[str]) -> Iterator[str]:
    """For each command a case with its options and the values of its first argument."""
    for command in (*nested, *INTERFACES):
        words = [name.split()[1] for name in INTERFACES if name.startswith(f"{command} ")]
        interface = INTERFACES.get(command)
        if interface is not None:
            words += [word for positional in interface.positionals for word in positional.choices]
            words += [f"--{option.name}" for option in interface]
        files = " files=yes" if interface is not None and interface.positionals else ""
        yield f"                    '{command}') words=\"{' '.join(words)}\"{files} ;;"
