# Completion of peftbench in fish:   peftbench completion fish > ~/.config/fish/completions/peftbench.fish
function __peftbench_candidates
    set -l words (commandline --tokenize --cut-at-cursor --current-process)
    $words[1] completion candidates $words[2..] (commandline --current-token --cut-at-cursor) 2> /dev/null
end
complete --command peftbench --no-files --arguments '(__peftbench_candidates)'
