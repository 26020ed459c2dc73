-- For wrk: every request asks for a page nobody asked for before.
local prefix, n

function init(args)
    prefix, n = args[1], 0
end

function request()
    n = n + 1
    return wrk.format("GET", prefix .. n)
end
