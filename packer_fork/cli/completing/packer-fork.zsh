#compdef packer-fork
# Completion of packer-fork for zsh. Asks packer-fork itself, which answers within two
# seconds, or not at all.

_packer-fork() {
    local program=packer-fork line patterns
    local -a before plain joined
    if [[ $words[1] == */* ]]; then program=${words[1]/#\~\//$HOME/}; fi
    if (( CURRENT > 2 )); then before=("${(@Q)words[2,CURRENT-1]}"); fi
    "$program" __complete zsh "${before[@]}" "$IPREFIX$QIPREFIX$PREFIX" 2>/dev/null </dev/null |
    while IFS= read -r line; do
        case $line in
            ('+'*) joined+=("${line#+}") ;;
            ('='*) plain+=("${line#=}") ;;
            ('cut =') compset -P 1 '*=' ;;
            ('cut ,') compset -P '*,' ;;
            ('files '*) patterns=${line#* }; : ${patterns:=/} ;;
        esac
    done
    local result=1
    if (( $#plain )); then _describe -V -t values value plain && result=0; fi
    if (( $#joined )); then _describe -V -t flags 'flag of Packer' joined -S '' && result=0; fi
    if [[ $patterns == / ]]; then
        _files -/ && result=0
    elif [[ -n $patterns ]]; then
        _files -g "$patterns" && result=0
    fi
    return result
}

# As a file of fpath this is the function itself; read by eval it tells of it.
if [[ $funcstack[1] == _packer-fork ]]; then
    _packer-fork "$@"
else
    (( $+functions[compdef] )) || { autoload -Uz compinit && compinit -i }
    compdef _packer-fork packer-fork
fi
