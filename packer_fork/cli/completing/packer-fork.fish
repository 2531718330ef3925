# Completion of packer-fork for fish. Asks packer-fork itself, which answers within two
# seconds, or not at all.

function __packer_fork_complete
    set -l program packer-fork
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    if string match -q '*/*' -- $words[1]
        set program (string replace -r '^~/' $HOME/ -- $words[1])
    end
    for line in ($program __complete fish $words[2..-1] "$current" 2>/dev/null </dev/null)
        switch $line
            case '=*'
                string sub -s 2 -- $line
            case 'files *'
                __packer_fork_files "$current" (string split -n ' ' -- (string sub -s 7 -- $line))
        end
    end
end

function __packer_fork_files # CURRENT PATTERN...; folders are always offered
    set -l kept (string match -r -- '^-[^=]*=' $argv[1])
    set -l path (string replace -r -- '^-[^=]*=' '' $argv[1])
    for found in (complete -C "'' $path")
        set -l name (string split -m 1 \t -- $found)[1]
        for pattern in '*/' $argv[2..-1]
            if string match -q -- $pattern $name
                echo "$kept$name"
                break
            end
        end
    end
end

complete -c packer-fork -f -k -a '(__packer_fork_complete)'
