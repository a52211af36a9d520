# Prints the table of tools/bench: awk -f bench-table.awk keel=FILE [linux=FILE] [shipped=FILE] [base=FILE]
# Each file has a line `operation<TAB>cheapest<TAB>mean…` or `operation<TAB>FAILED<TAB>reason` for each operation.

function read_file(name, file,    line, fields) {
    while ((getline line < file) > 0) {
        split(line, fields, "\t")
        if (line ~ /^# ticks at/) { fields[1] = "machine's start to main"; fields[2] = fields[3] = split_last(line) }
        else if (line ~ /^#/) continue
        if (name == "keel") order[++count] = fields[1]
        figure[name, fields[1]] = fields[2]
        mean[name, fields[1]] = fields[3]
    }
    close(file)
    columns[name] = 1
}

function split_last(line,    fields, n) { n = split(line, fields, "\t"); return fields[n] }

function is_number(text) { return text ~ /^[0-9.]+$/ }

# A figure as people read it: a decimal below 100 only, thousands apart.
function readable(value,    text, result) {
    if (!is_number(value)) return value == "" ? "-" : value
    if (value < 100) return sprintf("%.1f", value)
    text = sprintf("%.0f", value)
    for (result = ""; length(text) > 3; text = substr(text, 1, length(text) - 3))
        result = " " substr(text, length(text) - 2) result
    return text result
}

BEGIN {
    for (i = 1; i < ARGC; i++) {
        split(ARGV[i], argument, "=")
        read_file(argument[1], substr(ARGV[i], length(argument[1]) + 2))
    }
    printf "%-42s %13s %13s", "operation", "Keel", "(mean)"
    if ("linux" in columns) printf " %13s %6s", "Linux, lean", "ratio"
    if ("shipped" in columns) printf " %15s", "Linux as shipped"
    if ("base" in columns) printf " %13s %7s", "base", "change"
    print ""
    for (i = 1; i <= count; i++) {
        name = order[i]
        own = figure["keel", name]
        printf "%-42s %13s %13s", name, readable(own), is_number(own) ? readable(mean["keel", name]) : mean["keel", name]
        if ("linux" in columns) {
            lean = figure["linux", name]
            ratio = is_number(own) && is_number(lean) && lean > 0 ? own / lean : ""
            printf " %13s %6s", readable(lean), ratio == "" ? "-" : sprintf("%.2f", ratio)
            if (ratio != "" && ratio > 0.5 && name != "empty loop") over_half = over_half "\n  " name
        }
        if ("shipped" in columns) printf " %15s", readable(figure["shipped", name])
        if ("base" in columns) {
            before = figure["base", name]
            change = is_number(own) && is_number(before) && before > 0 ? own / before - 1 : ""
            printf " %13s %7s", readable(before), change == "" ? "-" : sprintf("%+.1f%%", 100 * change)
            if (change != "" && change > 0.05) grown = grown "\n  " name
        }
        print ""
    }
    if (over_half != "") print "\nMore than half of lean Linux's:" over_half
    if ("base" in columns) print grown == "" ? "\nNothing grew by over 5 %." : "\nGrew by over 5 %:" grown
}
