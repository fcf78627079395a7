# Completion of peftbench in bash:   eval "$(peftbench completion bash)"   in ~/.bashrc
_peftbench() {
    local words cur line=${COMP_LINE:0:COMP_POINT} command=("${COMP_WORDS[0]}") from=1
    read -ra words <<< "$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    if [[ ${words[1]} == -m && ${words[2]} == peftbench ]]; then  # python -m peftbench
        command=("${words[0]}" -m peftbench) from=3
        (( ${#words[@]} > 3 )) || return 0
    elif [[ ${words[0]##*/} == python* ]]; then
        return 0
    fi
    cur=${words[${#words[@]} - 1]}
    mapfile -t COMPREPLY < <("${command[@]}" completion candidates "${words[@]:from}" 2> /dev/null)
    [[ ${#COMPREPLY[@]} -eq 1 && -z ${COMPREPLY[0]} ]] && COMPREPLY=()
    # A key ends in = or a dot, and a value may be followed by a comma: no space after them.
    [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[=.] ]] && compopt -o nospace
    # Readline replaces only what follows the last = (or :), where words break for it.
    local breaks=${COMP_WORDBREAKS//[^=:]/} kept
    if [[ -n $breaks && $cur == *["$breaks"]* ]]; then
        kept=${cur%"${cur##*["$breaks"]}"}
        COMPREPLY=("${COMPREPLY[@]#"$kept"}")
    fi
}
complete -o default -F _peftbench peftbench
# Whatever completes Python's own command line already, stays.
for _peftbench_python in python python3; do
    complete -p "$_peftbench_python" &> /dev/null || complete -o default -F _peftbench "$_peftbench_python"
done
unset _peftbench_python
