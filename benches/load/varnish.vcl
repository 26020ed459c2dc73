vcl 4.1;

# Varnish as a caching proxy. `run` fills in the words between at signs. Its working
# directory is in memory and threads wait in advance, as its manual advises; see
# servers.py for its parameters.
backend origin { .host = "127.0.0.1"; .port = "@ORIGIN@"; }
backend slow { .host = "127.0.0.1"; .port = "@SLOW@"; .first_byte_timeout = 60s; }

sub vcl_recv {
    if (req.url ~ "^/pass/") { return (pass); }
    if (req.url ~ "^/slow/") { set req.backend_hint = slow; }
}
