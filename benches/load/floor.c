/* The floor of the benchmark: a bare epoll loop that reads and writes the bytes
 * that a caching proxy must read and write, and does nothing else with them.
 *
 * A path that ends with "/hit" is answered from memory, with what the origin
 * said to it once. Every other request goes to the origin as it is, over a
 * connection that belongs to the client's, and the answer comes back as it is.
 * One request at a time on a connection, each in one piece: wrk's way.
 *
 * usage: floor PORT ORIGIN_PORT
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum role { CLIENT, ORIGIN };

/* One end of a pair: a client, or the connection to the origin that is its. */
struct end {
	int fd;
	enum role role;
	struct end *other;
	/* What the kernel did not take yet. */
	char *rest;
	size_t left;
};

struct page {
	char path[64];
	char *bytes;
	size_t length;
	struct page *next;
};

static int epoll;
static struct sockaddr_in origin;
static struct page *pages;
static char buffer[256 * 1024];

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static int dial(void)
{
	int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&origin, sizeof origin) < 0)
		fail("origin");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	return fd;
}

static struct end *watch(int fd, enum role role)
{
	struct end *end = calloc(1, sizeof *end);
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = end };
	end->fd = fd;
	end->role = role;
	if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0)
		fail("epoll_ctl");
	return end;
}

/* Closes both ends of a pair. The structures stay: an event of this round may
 * still point to them, and the benchmark opens few connections. */
static void part(struct end *end)
{
	for (int i = 0; i < 2 && end; i++, end = end->other) {
		if (end->fd >= 0)
			close(end->fd);
		end->fd = -1;
		free(end->rest);
		end->rest = NULL;
		end->left = 0;
	}
}

/* Waits for room to write where something is left, else for bytes to read. */
static void want(struct end *end, unsigned events)
{
	struct epoll_event event = { .events = events, .data.ptr = end };
	epoll_ctl(epoll, EPOLL_CTL_MOD, end->fd, &event);
}

static void deliver(struct end *end, const char *bytes, size_t length)
{
	if (end->fd < 0)
		return;
	ssize_t sent = 0;
	if (!end->left) {
		sent = send(end->fd, bytes, length, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (sent < 0 && errno != EAGAIN)
			return part(end);
		if (sent < 0)
			sent = 0;
		if ((size_t)sent == length)
			return;
		want(end, EPOLLOUT);
	}
	end->rest = realloc(end->rest, end->left + length - sent);
	memcpy(end->rest + end->left, bytes + sent, length - sent);
	end->left += length - sent;
}

static void flush(struct end *end)
{
	ssize_t sent = send(end->fd, end->rest, end->left, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (sent < 0)
		return errno == EAGAIN ? (void)0 : part(end);
	end->left -= sent;
	memmove(end->rest, end->rest + sent, end->left);
	if (!end->left)
		want(end, EPOLLIN);
}

/* The whole answer of the origin to a request for this path: asked for once. */
static struct page *load(const char *path, size_t path_length)
{
	struct page *page = calloc(1, sizeof *page);
	int fd = dial();
	size_t whole = 0;
	page->bytes = malloc(sizeof buffer);
	if (path_length >= sizeof page->path)
		fail("a hit's path");
	memcpy(page->path, path, path_length);
	dprintf(fd, "GET %s HTTP/1.1\r\nHost: floor\r\n\r\n", page->path);
	while (!whole || page->length < whole) {
		ssize_t got = recv(fd, page->bytes + page->length, sizeof buffer - 1 - page->length, 0);
		if (got <= 0)
			fail("the answer to a hit");
		page->length += got;
		page->bytes[page->length] = 0;
		char *end = strstr(page->bytes, "\r\n\r\n");
		char *field = strcasestr(page->bytes, "\r\ncontent-length:");
		if (end && field && field < end)
			whole = end + 4 - page->bytes + strtoul(field + 17, NULL, 10);
	}
	close(fd);
	page->next = pages;
	return pages = page;
}

static void request(struct end *client, size_t length)
{
	const char *path = buffer + 4; /* after "GET " */
	const char *end = memchr(path, ' ', length > 4 ? length - 4 : 0);
	size_t path_length = end ? end - path : 0;
	if (path_length > 4 && memcmp(end - 4, "/hit", 4) == 0) {
		struct page *page = pages;
		while (page && (strlen(page->path) != path_length || memcmp(page->path, path, path_length)))
			page = page->next;
		if (!page)
			page = load(path, path_length);
		return deliver(client, page->bytes, page->length);
	}
	if (!client->other) {
		client->other = watch(dial(), ORIGIN);
		client->other->other = client;
	}
	deliver(client->other, buffer, length);
}

int main(int argc, char **argv)
{
	if (argc != 3)
		return 2;
	struct sockaddr_in own = { .sin_family = AF_INET, .sin_port = htons(atoi(argv[1])) };
	own.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	origin = own;
	origin.sin_port = htons(atoi(argv[2]));
	int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (bind(listener, (struct sockaddr *)&own, sizeof own) < 0 || listen(listener, 1024) < 0)
		fail("listen");
	epoll = epoll_create1(0);
	struct end *door = watch(listener, CLIENT);
	struct epoll_event events[256];
	for (;;) {
		int ready = epoll_wait(epoll, events, 256, -1);
		for (int i = 0; i < ready; i++) {
			struct end *end = events[i].data.ptr;
			if (end == door) {
				int fd;
				while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
					setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
					watch(fd, CLIENT);
				}
				continue;
			}
			if (end->fd < 0)
				continue;
			if (end->left) {
				flush(end);
				continue;
			}
			ssize_t got = recv(end->fd, buffer, sizeof buffer, MSG_DONTWAIT);
			if (got <= 0) {
				if (got == 0 || errno != EAGAIN)
					part(end);
			} else if (end->role == ORIGIN) {
				deliver(end->other, buffer, got);
			} else {
				request(end, got);
			}
		}
	}
}
