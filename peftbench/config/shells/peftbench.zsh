#compdef peftbench
# Completion of peftbench in zsh:   eval "$(peftbench completion zsh)"   in ~/.zshrc, below compinit
_peftbench() {
    local -a found
    found=("${(@f)$("${words[1]}" completion candidates "${(@)words[2,CURRENT]}" 2> /dev/null)}")
    found=("${(@)found:#}")
    if (( ${#found} == 0 )); then
        [[ $words[CURRENT] == *=* ]] && compset -P '*='
        _files
        return
    fi
    # A key ends in = or a dot, and a value may be followed by a comma: no space after them.
    compadd -Q -S '' -- "${(@M)found:#*[=.]}"
    compadd -Q -- "${(@)found:#*[=.]}"
}
compdef _peftbench peftbench
