# Completion of packer-fork for bash 4.4 and later. Asks packer-fork itself, which answers
# within two seconds, or not at all.

_packer_fork() {
    local program=packer-fork line
    if [[ ${COMP_WORDS[0]} == */* ]]; then program=${COMP_WORDS[0]/#\~\//$HOME/}; fi
    COMPREPLY=()
    compopt -o nosort
    while IFS= read -r line; do
        case $line in
        =*) COMPREPLY+=("${line#=}") ;;
        option\ *) compopt -o "${line#* }" ;;
        files\ *) _packer_fork_files "${line#* }" ;;
        esac
    done < <("$program" __complete bash "${COMP_LINE:0:COMP_POINT}" "$COMP_WORDBREAKS" \
        "$COMP_TYPE" "${COLUMNS:-80}" 2>/dev/null </dev/null)
}

_packer_fork_files() { # PATTERNS; folders are always offered
    local current=${COMP_WORDS[COMP_CWORD]} pattern patterns found
    if [[ $current == [=:] ]]; then current=; fi
    current=${current#[\"\']}
    current=${current//\\/}
    read -ra patterns <<<"$1"
    mapfile -t found < <(
        compgen -d -- "$current"
        for pattern in "${patterns[@]}"; do compgen -f -X "!$pattern" -- "$current"; done
    )
    COMPREPLY+=("${found[@]}")
    compopt -o filenames
}

complete -F _packer_fork packer-fork
